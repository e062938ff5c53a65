"""Plan the final runs: each winner and the tuned optimizers on fresh seeds, on the task and on unseen tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ranger21.config.arguments import setting
from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun, planned_runs
from ranger21.meta.plan import CompositionRequest
from ranger21.meta.record import Composed, Rival
from ranger21.system.errors import UserError
from ranger21.tuning.contest import winner_arguments
from ranger21.tuning.plan import TuningRequest
from ranger21.tuning.record import Tuned, read_tuned, tuned_hash
from ranger21.tuning.search import Search

SEEDS = (100, 101, 102, 103, 104)  # where the experiment's protocol fixes none
RIVALS = ("adamw", "ranger21")


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
    for rival in rivals:
        words = (f"optimizer={rival.optimizer}", *winner_arguments(rival))
        found.append(Contestant(f"{rival.optimizer}, tuned", words))
    return found


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
            result are for its own task only.
        transfer: experiments that no search saw.
        count: number of seeds; None for all of the experiment's protocol.

    Raises:
        UserError: a task's protocol has fewer seeds than `count`, or one that a search used.
    """
    jobs: list[PlannedRun] = []
    for experiment in (request.experiment, *transfer):
        arguments = list(request.arguments)
        if experiment != request.experiment:
            arguments = [w for w in arguments if w not in request.recorded and not w.lstrip("+~").startswith("data")]
        seeds = tuple(compose_config([f"experiment={experiment}", *arguments]).protocol.seeds) or SEEDS
        if len(seeds) < (count or 0):
            raise UserError(f"The protocol of experiment={experiment} has {len(seeds)} seeds: use fewer --seeds.")
        if used := sorted(set(range(request.repeats)) & set(seeds)):
            raise UserError(
                f"The protocol of experiment={experiment} has seed {used[0]}, which a search used: choose another task."
            )
        words = (*arguments, setting("outputs", request.outputs))
        wanted = [((f"experiment={experiment}", *one.choices), seed, words) for seed in seeds[:count] for one in found]
        jobs += planned_runs(wanted)
    return jobs


def rivals_search(request: CompositionRequest) -> Search:
    """Return the tuning of the rivals in the request's experiment, with as many trials as its budget has full runs."""
    trials = TuningRequest(
        (request.experiment,), RIVALS, request.budget, 1, False, 0, request.outputs, request.arguments
    )
    return Search(trials)
