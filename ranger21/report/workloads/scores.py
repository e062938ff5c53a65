"""The results of one optimizer on one workload, including failed runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ranger21.report.groups.chance import chance
from ranger21.report.groups.failures import failed
from ranger21.report.groups.grouping import Group
from ranger21.report.groups.summary import final_top1, seed_of
from ranger21.report.runs.run import FINISHED, RUNNING, RecordedRun, Seed
from ranger21.report.statistics.pairs import by_seed


@dataclass(frozen=True)
class Scores:
    """The results of one optimizer on one workload.

    The score of a run is (top-1 - chance) / (100 % - chance): 0 for guessing, 1 for perfect accuracy. It does not
    depend on other runs. A failed run scores 0 and ranks below all others.

    Attributes:
        top1: the final top-1 of each seed that finished, in per cent.
        failed: the seeds that failed.
        running: the number of runs that have not ended, which do not count yet.
        chance: the accuracy of guessing, in per cent; None if it is unknown.
    """

    top1: dict[Seed, float]
    failed: frozenset[Seed]
    running: int
    chance: float | None

    @property
    def n(self) -> int:
        """The number of seeds that count."""
        return len(self.top1) + len(self.failed)

    @property
    def ranked(self) -> list[float]:
        """A value for each seed, to be ranked within the workload; failed seeds are -inf."""
        return [*self.top1.values(), *[-math.inf] * len(self.failed)]

    @property
    def normalised(self) -> list[float] | None:
        """The score of each seed; None if chance is unknown."""
        if self.chance is None:
            return None
        return [(top1 - self.chance) / (100 - self.chance) for top1 in self.top1.values()] + [0.0] * len(self.failed)

    @property
    def mean(self) -> float | None:
        """The mean top-1 in per cent, with failures at chance; None if chance is unknown, or no run has ended."""
        lost = [self.chance] * len(self.failed)
        values = [value for value in (*self.top1.values(), *lost) if value is not None]
        return math.fsum(values) / self.n if values and len(values) == self.n else None

    @property
    def counted(self) -> float:
        """The mean top-1 in per cent, as in a comparison's table: failures count as chance, or 0 if it is unknown."""
        return math.fsum([*self.top1.values(), *[self.chance or 0.0] * len(self.failed)]) / self.n


def scores(group: Group, everyone: Iterable[RecordedRun]) -> Scores:
    """Return the results of a group.

    If a seed was run several times, the mean counts; if any of these runs failed, the seed failed, so that repeating a
    failed run cannot help.

    Args:
        everyone: all runs of the workload, any of which may record the number of classes.
    """
    known = {guessing for run in everyone if (guessing := chance(run)) is not None}
    finished = [(run, value) for run in group.runs if run.status == FINISHED and (value := final_top1(run)) is not None]
    top1 = by_seed((seed_of(run), value) for run, value in finished)
    lost = {seed_of(run) for run in group.runs if failed(run)}
    kept = {seed: value for seed, value in top1.items() if seed not in lost}
    running = sum(run.status == RUNNING for run in group.runs)
    return Scores(kept, frozenset(lost), running, known.pop() if len(known) == 1 else None)
