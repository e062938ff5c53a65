"""What the runs of one optimizer came to on one workload, those that failed among them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ranger21.report.groups.chance import chance
from ranger21.report.groups.failures import failed
from ranger21.report.groups.grouping import Group
from ranger21.report.groups.summary import final_top1, seed_of
from ranger21.report.runs.run import FINISHED, RUNNING, Run, Seed
from ranger21.report.statistics.pairs import by_seed


@dataclass(frozen=True)
class Scores:
    """The final top-1 of each seed whose run has ended, and the seeds that failed.

    A score is top-1 above chance as a share of what lies between chance and 100 %: 0 is guessing, 1 is all right. It
    depends on no other run. A failed run has the score 0, and is the worst of all where runs are ranked.
    """

    top1: dict[Seed, float]  # per cent
    failed: frozenset[Seed]
    running: int  # runs without an end, which do not count yet
    chance: float | None  # per cent

    @property
    def n(self) -> int:
        """How many seeds count."""
        return len(self.top1) + len(self.failed)

    @property
    def ranked(self) -> list[float]:
        """A value for each seed, to be compared within the workload alone."""
        return [*self.top1.values(), *[-math.inf] * len(self.failed)]

    @property
    def normalised(self) -> list[float] | None:
        """A score for each seed; None where chance is not known."""
        if self.chance is None:
            return None
        return [(top1 - self.chance) / (100 - self.chance) for top1 in self.top1.values()] + [0.0] * len(self.failed)

    @property
    def mean(self) -> float | None:
        """The mean top-1 in per cent, failures at chance; None where that is not known, or nothing has ended."""
        lost = [self.chance] * len(self.failed)
        values = [value for value in (*self.top1.values(), *lost) if value is not None]
        return math.fsum(values) / self.n if values and len(values) == self.n else None

    @property
    def counted(self) -> float:
        """The mean top-1 in per cent as in a comparison's table: failures at chance, at 0 where that is not known."""
        return math.fsum([*self.top1.values(), *[self.chance or 0.0] * len(self.failed)]) / self.n


def scores(group: Group, everyone: Iterable[Run]) -> Scores:
    """Of a group's runs. `everyone` are all runs of the workload: each may tell its count of classes.

    Of several runs with one seed the mean counts; a seed of which any run failed has failed, or one could try again.
    """
    known = {guessing for run in everyone if (guessing := chance(run)) is not None}
    finished = [(run, value) for run in group.runs if run.status == FINISHED and (value := final_top1(run)) is not None]
    top1 = by_seed((seed_of(run), value) for run, value in finished)
    lost = {seed_of(run) for run in group.runs if failed(run)}
    kept = {seed: value for seed, value in top1.items() if seed not in lost}
    running = sum(run.status == RUNNING for run in group.runs)
    return Scores(kept, frozenset(lost), running, known.pop() if len(known) == 1 else None)
