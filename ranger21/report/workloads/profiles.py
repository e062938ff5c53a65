"""Performance profiles of time to target (Dolan and Moré 2002), as AlgoPerf scores training algorithms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ranger21.report.runs.metrics import Array
from ranger21.report.targets.targets import GroupAtTarget, runs_at_target, targets_of
from ranger21.report.workloads.contestants import Meeting, Workload

LARGEST_RATIO = 4.0  # as in AlgoPerf: longer times score nothing


@dataclass(frozen=True)
class PerformanceProfile:
    """A contestant's times to all targets, relative to the fastest contestant.

    Attributes:
        ratios: the time for each target divided by the fastest time; infinite if the target was never reached.
        weights: the weight of each target; they sum to 1, workloads share them equally, and so do a workload's targets.
    """

    ratios: tuple[float, ...]
    weights: tuple[float, ...]

    def share(self, ratio: float) -> float:
        """Return the share of targets reached within `ratio` times the time of the fastest."""
        return math.fsum(w for r, w in zip(self.ratios, self.weights, strict=True) if r <= ratio * (1 + 1e-9))

    @property
    def steps(self) -> tuple[Array, Array]:
        """The ratios at which the share rises, and the share from each of them on."""
        where = np.unique([ratio for ratio in self.ratios if math.isfinite(ratio)])
        return where, np.array([self.share(ratio) for ratio in where])

    @property
    def score(self) -> float:
        """The mean of the share over the ratios from 1 to LARGEST_RATIO."""
        span = LARGEST_RATIO - 1
        gained = (w * max(0.0, LARGEST_RATIO - r) for r, w in zip(self.ratios, self.weights, strict=True))
        return math.fsum(gained) / span


def profiles(meeting: Meeting) -> dict[str, PerformanceProfile]:
    """Return the profile of each contestant that is on all workloads; empty if no workload has targets.

    A contestant's time is the median over all its runs, in images, or in steps if images were not logged. It is
    infinite if fewer than half of the runs have reached the target.
    """
    asked = [(workload, target) for workload in meeting.workloads for target in targets_of(workload.comparison)]
    times = [_times(workload, meeting.everywhere, target) for workload, target in asked]
    having = sum(bool(targets_of(workload.comparison)) for workload in meeting.workloads)
    weights = tuple(1 / having / len(targets_of(workload.comparison)) for workload, _ in asked)
    return {
        name: PerformanceProfile(tuple(_ratio(at[name], min(at.values())) for at in times), weights)
        for name in meeting.everywhere
        if asked
    }


def _times(workload: Workload, names: Sequence[str], target: float) -> Mapping[str, float]:
    rows = {
        name: GroupAtTarget(group, target, runs_at_target(group, target)) for name, group in workload.groups.items()
    }
    for measure in ("images", "steps"):
        arrivals = {name: rows[name].arrivals(measure) for name in names}
        if None not in arrivals.values():
            break
    medians = {name: each.median().value if each and each.n else None for name, each in arrivals.items()}
    return {name: math.inf if value is None else value for name, value in medians.items()}


def _ratio(time: float, fastest: float) -> float:
    return time / fastest if math.isfinite(time) and fastest > 0 else math.inf
