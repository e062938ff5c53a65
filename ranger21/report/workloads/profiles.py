"""Performance profiles of time to target (Dolan and Moré 2002), as AlgoPerf scores training algorithms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ranger21.report.runs.metrics import Array
from ranger21.report.targets.targets import GroupAtTarget, courses, targets_of
from ranger21.report.workloads.contestants import Meeting, Workload

LARGEST_RATIO = 4.0  # as in AlgoPerf: who takes longer gets nothing for it


@dataclass(frozen=True)
class Profile:
    """How many times as long as the fastest a contestant takes to each target, infinite for never.

    `weights` have the sum 1: each workload weighs the same, and each of its targets.
    """

    ratios: tuple[float, ...]
    weights: tuple[float, ...]

    def share(self, ratio: float) -> float:
        """The share of targets reached within so many times the fastest's time."""
        return math.fsum(w for r, w in zip(self.ratios, self.weights, strict=True) if r <= ratio * (1 + 1e-9))

    @property
    def steps(self) -> tuple[Array, Array]:
        """The ratios at which the share rises, and the share from there on."""
        where = np.unique([ratio for ratio in self.ratios if math.isfinite(ratio)])
        return where, np.array([self.share(ratio) for ratio in where])

    @property
    def score(self) -> float:
        """The mean of the share over the ratios from 1 to LARGEST_RATIO."""
        span = LARGEST_RATIO - 1
        gained = (w * max(0.0, LARGEST_RATIO - r) for r, w in zip(self.ratios, self.weights, strict=True))
        return math.fsum(gained) / span


def profiles(meeting: Meeting) -> dict[str, Profile]:
    """Of the contestants that are on all workloads; empty where no workload has targets.

    A contestant's time is the median of all its runs', in images, or in steps where images were not logged; infinite
    where fewer than half have reached the target so far.
    """
    asked = [(workload, target) for workload in meeting.workloads for target in targets_of(workload.comparison)]
    times = [_times(workload, meeting.everywhere, target) for workload, target in asked]
    having = sum(bool(targets_of(workload.comparison)) for workload in meeting.workloads)
    weights = tuple(1 / having / len(targets_of(workload.comparison)) for workload, _ in asked)
    return {
        name: Profile(tuple(_ratio(at[name], min(at.values())) for at in times), weights)
        for name in meeting.everywhere
        if asked
    }


def _times(workload: Workload, names: Sequence[str], target: float) -> Mapping[str, float]:
    rows = {name: GroupAtTarget(group, target, courses(group, target)) for name, group in workload.groups.items()}
    for measure in ("images", "steps"):
        arrivals = {name: rows[name].arrivals(measure) for name in names}
        if None not in arrivals.values():
            break
    medians = {name: each.median().value if each and each.n else None for name, each in arrivals.items()}
    return {name: math.inf if value is None else value for name, value in medians.items()}


def _ratio(time: float, fastest: float) -> float:
    return time / fastest if math.isfinite(time) and fastest > 0 else math.inf
