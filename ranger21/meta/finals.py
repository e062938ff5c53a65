"""Plan the final runs: each winner and the tuned optimizers on fresh seeds, on the task and on unseen tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.config.arguments import setting
from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun, planned_runs
from ranger21.grid.likeness import missing_data
from ranger21.meta.plan import CompositionRequest
from ranger21.meta.record import Composed
from ranger21.meta.rivals import just_tuned, require_fair, rivals_in, rivals_search
from ranger21.system.errors import UserError
from ranger21.tuning.contest import winner_arguments
from ranger21.tuning.record import Tuned
from ranger21.tuning.space import PARTS

SEEDS = (100, 101, 102, 103, 104)  # where the experiment's protocol fixes none
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


class Finals:
    """The final runs of a composition, planned as soon as the searches have ended and the rivals are tuned.

    Args:
        arm: the arguments of train.py for any arm, with which the tasks are checked before there are winners.
        tuned: a tuned.json with the rivals; None: they are tuned with as many trials as the budget has full runs.
        request, transfer, count: see `planned`.

    Raises:
        UserError: `tuned` lacks a rival, or has one that is not comparable; the data of a task is missing; and see
            `planned`.
    """

    def __init__(
        self,
        request: CompositionRequest,
        arm: Sequence[str],
        tuned: Path | None,
        transfer: Sequence[str],
        count: int | None,
    ) -> None:
        self.request, self._transfer, self._count = request, transfer, count
        self._rivals = rivals_in(tuned, request.experiment) if tuned else None
        self.search = None if tuned else rivals_search(request)
        found = [Contestant("a winner", ("optimizer=chain", *arm)), *map(_rival, self._rivals or ())]
        jobs = planned(request, found, transfer, count)
        if missing := missing_data(jobs):
            raise UserError(f"The final runs cannot start: {missing}")
        if tuned and self._rivals:
            seeds = {job.config.seed for job in jobs if job.config.experiment == request.experiment}
            require_fair(self._rivals, request, seeds, tuned)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The experiments of the final runs: that of the searches first."""
        return (self.request.experiment, *self._transfer)

    def rivals(self) -> list[Tuned] | None:
        """Return the tuned rivals; None until they are tuned. Raises a UserError if all trials of one diverged."""
        if self._rivals is None and self.search:
            self._rivals = just_tuned(self.search)
        return self._rivals

    def present(self, composed: Composed) -> list[PlannedRun]:
        """Return the final runs; until the rivals are tuned, their trials."""
        if (rivals := self.rivals()) is not None:
            return planned(self.request, contestants(composed, rivals), self._transfer, self._count)
        return [task.job for task in self.search.present()] if self.search else []
