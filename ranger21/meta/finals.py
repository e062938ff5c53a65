"""Plan the final runs: each winner and the tuned optimizers on fresh seeds, on the task and on unseen tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ranger21.config.arguments import setting
from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun, planned_runs
from ranger21.grid.likeness import missing_data
from ranger21.meta.plan import CompositionRequest
from ranger21.meta.record import Composed, Rival
from ranger21.system.errors import UserError
from ranger21.tuning.contest import winner_arguments
from ranger21.tuning.plan import TuningRequest
from ranger21.tuning.record import Tuned, read_tuned, tuned_hash
from ranger21.tuning.search import Search
from ranger21.tuning.space import PARTS

SEEDS = (100, 101, 102, 103, 104)  # where the experiment's protocol fixes none
RIVALS = ("adamw", "ranger21")
UNCHANGED = ("optimizer", "schedule", "lr_scaling")  # the parts of a contestant's configuration


@dataclass(frozen=True)
class Contestant:
    """What the final runs compare: the winner of one search, or a tuned optimizer.

    Attributes:
        name: such as "thompson-0" or "adamw, tuned".
        choices: the arguments of train.py.
    """

    name: str
    choices: tuple[str, ...]


def contestants(composed: Composed, rivals: Sequence[Tuned]) -> list[Contestant]:
    """Return the winners of the searches, in their order, and the tuned rivals."""
    found = []
    for one in composed.searches:
        if one.winner:
            record = f'tuning.record="{one.hash}"'  # quoted, because hashes such as 12e4 look like numbers
            words = ("optimizer=chain", *one.winner.overrides, f"tuning.trials={composed.budget}", record)
            found.append(Contestant(one.name, words))
    return [*found, *map(_rival, rivals)]


def _rival(one: Tuned) -> Contestant:
    return Contestant(f"{one.optimizer}, tuned", (f"optimizer={one.optimizer}", *winner_arguments(one)))


def rivals_in(path: Path, experiment: str) -> list[Tuned]:
    """Return the tuned rivals from a tuned.json.

    Raises:
        UserError: a rival was not tuned in this experiment, or all of its trials diverged.
    """
    known = {one.optimizer: one for one in read_tuned(path) if one.experiment == experiment and one.winner}
    if lacking := [name for name in RIVALS if name not in known]:
        raise UserError(
            f"{path} has no winner of optimizer={lacking[0]} in experiment={experiment}. Tune it with scripts/tune.py, "
            "or omit --tuned, so that this command tunes it."
        )
    return [known[name] for name in RIVALS]


def with_rivals(composed: Composed, rivals: Sequence[Tuned]) -> Composed:
    """Return the record of the searches with their rivals."""
    found = tuple(Rival(one.optimizer, one.budget.trials * one.budget.rounds, tuned_hash(one)) for one in rivals)
    return replace(composed, rivals=found)


def planned(
    request: CompositionRequest, found: Sequence[Contestant], transfer: Sequence[str], count: int | None
) -> list[PlannedRun]:
    """Return the final runs, seed by seed: of the task, and of the tasks in `transfer` with the same choices.

    Args:
        request: the request of the searches. Of its further arguments, those about the data and those that change a
            result are for its own task only, except those of the optimizer, its schedule and `lr_scaling`.
        transfer: experiments that no search saw.
        count: number of seeds; None for all of the experiment's protocol.

    Raises:
        UserError: a task has fewer seeds than `count`, or one that a search used; or its experiment changes an
            optimizer or a schedule.
    """
    jobs: list[PlannedRun] = []
    for experiment in (request.experiment, *transfer):
        arguments = list(request.arguments)
        if experiment != request.experiment:
            arguments = [word for word in arguments if _is_for_all(word, request)]
        seeds = _seeds(request, experiment, arguments, count)
        words = (*arguments, setting("outputs", request.outputs))
        wanted = [((f"experiment={experiment}", *one.choices), seed, words) for seed in seeds for one in found]
        runs = planned_runs(wanted)
        _require_unchanged(jobs or runs, runs, experiment)
        jobs += runs
    return jobs


def _is_for_all(word: str, request: CompositionRequest) -> bool:
    """Return whether an argument is for the tasks of --transfer as well."""
    plain = word.lstrip("+~")
    return plain.startswith((*PARTS, "hydra.")) or (word not in request.recorded and not plain.startswith("data"))


def _seeds(request: CompositionRequest, experiment: str, arguments: Sequence[str], count: int | None) -> Sequence[int]:
    """Return the fresh seeds of a task. Raises a UserError if there are fewer than `count`, or a search used one."""
    seeds = tuple(compose_config([f"experiment={experiment}", *arguments]).protocol.seeds) or SEEDS
    if len(seeds) < (count or 0):
        raise UserError(f"There are {len(seeds)} fresh seeds for experiment={experiment}: use fewer --seeds.")
    if used := sorted(set(range(request.repeats)) & set(seeds)):
        raise UserError(
            f"The final runs of experiment={experiment} have seed {used[0]}, which a search uses: use fewer "
            "--searches, another experiment, or protocol=none, whose seeds are 100 to 104."
        )
    return seeds[:count]


def _require_unchanged(here: Sequence[PlannedRun], there: Sequence[PlannedRun], experiment: str) -> None:
    """Raise a UserError if the same contestants have another optimizer or schedule on another task."""
    for one, other in zip(here, there, strict=False):
        if changed := [part for part in UNCHANGED if getattr(one.config, part) != getattr(other.config, part)]:
            raise UserError(
                f"experiment={experiment} sets its own values for {changed[0]}, so that the winners would "
                "not run unchanged there: remove them from its configuration, or choose another --transfer."
            )


def require_finals(
    request: CompositionRequest, arm: Sequence[str], tuned: Path | None, transfer: Sequence[str], count: int | None
) -> None:
    """Raise a UserError before the searches if the final runs would be refused after them.

    Args:
        arm: the arguments of train.py for any arm, in place of those of the winners.
        tuned: the tuned.json of the rivals; None: they are tuned after the searches.
        request, transfer, count: see `planned`.
    """
    found = [Contestant("a winner", ("optimizer=chain", *arm))]
    rivals = rivals_in(tuned, request.experiment) if tuned else []
    for one in rivals:
        found.append(_rival(one))
        if set(one.arguments) != set(request.recorded):
            had, have = (" ".join(words) or "no arguments" for words in (one.arguments, request.recorded))
            raise UserError(
                f"{tuned} has optimizer={one.optimizer} tuned with {had}, but this command has {have}, which changes "
                "results: tune it with the same arguments, or omit --tuned, so that this command tunes it."
            )
    if not tuned:
        rivals_search(request)
    jobs = planned(request, found, transfer, count)
    if missing := missing_data(jobs):
        raise UserError(f"The final runs cannot start: {missing}")
    seeds = {job.config.seed for job in jobs if job.config.experiment == request.experiment}
    if biased := [one for one in rivals if one.budget.seed in seeds]:
        raise UserError(
            f"{tuned} has optimizer={biased[0].optimizer} tuned on seed {biased[0].budget.seed}, which is one of the "
            "seeds of the final runs. It would have an advantage: tune it with another --seed."
        )


def rivals_search(request: CompositionRequest) -> Search:
    """Return the tuning of the rivals in the request's experiment, with as many trials as its budget has full runs."""
    trials = TuningRequest(
        (request.experiment,), RIVALS, request.budget, 1, False, 0, request.outputs, request.arguments
    )
    return Search(trials)
