"""How many seeds it takes to find a gap, and which gap so many seeds find.

A gap is found where the test's p is below 5 % after the correction, on the right side. The chance of that, for normal
noise, is computed, not simulated: for pairs it is the noncentral t distribution's; for Welch's test it is the mean of
such chances over the shares that the groups have in the variance. The correction is Bonferroni's over all pairs.
Holm's is the same for the smallest p, and milder for the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, chdtri, nctdtr, stdtrit

from ranger21.report.runs.metrics import Array
from ranger21.report.statistics.ttests import ENOUGH_SEEDS, Seeds, least_error, moments

POWER = 0.8  # the chance to find the gap
MOST = 10_000  # seeds; larger numbers are not told apart
SHARES = (np.arange(50) + 0.5) / 50  # quantiles over which Welch's test is averaged: 50 suffice for three digits


@dataclass(frozen=True)
class Spread:
    """What the seeds seen say of the noise, in the values' unit."""

    sds: tuple[float, ...]  # one: of the differences of paired seeds; two: of each group
    seen: float = math.inf  # degrees of freedom that they rest on; infinite where they are supposed

    @property
    def sd(self) -> float:
        """The one of the differences, or the root mean square of both groups'."""
        return math.hypot(*self.sds) / math.sqrt(len(self.sds))

    def ends(self, confidence: float = 0.95) -> tuple[Spread, Spread]:
        """Both ends of the interval of the spread, of normal noise: few seeds hardly tell it."""
        tails = ((1 - confidence) / 2, (1 + confidence) / 2)
        low, high = (math.sqrt(self.seen / float(chdtri(self.seen, tail))) for tail in tails)
        return self.times(low), self.times(high)

    def times(self, factor: float) -> Spread:
        """A spread that is larger by this factor."""
        return Spread(tuple(sd * factor for sd in self.sds), self.seen)


def paired_spread(a: Seeds, b: Seeds) -> Spread | None:
    """Of the differences of the seeds that both groups have; None with fewer than two."""
    common = [a[seed] - b[seed] for seed in a if seed in b]
    variance = moments(common)[1] if common else None
    return None if variance is None else Spread((math.sqrt(variance),), len(common) - 1)


def unpaired_spread(a: Seeds, b: Seeds) -> Spread | None:
    """Of each of two groups; None with fewer than two values in one of them."""
    variance_a, variance_b = (moments(list(group.values()))[1] if group else None for group in (a, b))
    if variance_a is None or variance_b is None:
        return None
    whole = variance_a + variance_b
    parts = variance_a**2 / (len(a) - 1) + variance_b**2 / (len(b) - 1)
    seen = whole**2 / parts if parts else len(a) + len(b) - 2  # Satterthwaite's, of the sum of both
    return Spread((math.sqrt(variance_a), math.sqrt(variance_b)), seen)


def chance(gap: float, spread: Spread, n: tuple[int, int], tests: int = 1, quantum: float = 0.0) -> float:
    """The chance to find a gap with so many seeds in each group, at 5 % over all tests.

    Args:
        n: the seeds of each group, at least two; paired ones are as many in both.
        quantum: the step between values that are possible, which bounds the standard error as in the tests.
    """
    level = 0.05 / tests / 2
    error = math.sqrt(sum(sd**2 / seeds for sd, seeds in zip(spread.sds, n, strict=False)))
    least = math.sqrt(2) * least_error(quantum)
    if not max(error, least):
        return float(gap > 0)
    shift = gap / max(error, least)
    if len(spread.sds) == 1 or not error:
        df = n[0] - 1 if len(spread.sds) == 1 else sum(n) - 2
        return float(_beyond(-stdtrit(df, level), df, shift))
    df, freedom = sum(n) - 2, (n[0] - 1, n[1] - 1)
    share = betaincinv(freedom[0] / 2, freedom[1] / 2, SHARES)  # of the first group in the sum of both chi-squares
    a, b = (
        (sd / error) ** 2 / seeds * df * part / (seeds - 1)
        for sd, seeds, part in zip(spread.sds, n, (share, 1 - share), strict=True)
    )
    welch = (a + b) ** 2 / (a**2 / freedom[0] + b**2 / freedom[1])
    return float(np.mean(_beyond(-stdtrit(welch, level) * np.sqrt(a + b), df, shift)))


def _beyond(critical: Array, df: float, shift: float) -> Array:
    """The chance of a noncentral t above the critical values: 1 where scipy has NaN for a rest that is too small."""
    return 1 - np.nan_to_num(nctdtr(df, shift, critical), nan=0.0)


def gap_found(spread: Spread, n: tuple[int, int], tests: int = 1, quantum: float = 0.0) -> float:
    """The gap that so many seeds in each group find with the chance POWER."""
    high = max(math.hypot(*spread.sds), quantum)
    while chance(high, spread, n, tests, quantum) < POWER:
        high *= 2
    return float(brentq(lambda gap: chance(gap, spread, n, tests, quantum) - POWER, 0.0, high)) if high else 0.0


def seeds_needed(gap: float, spread: Spread, tests: int = 1, quantum: float = 0.0) -> int | None:
    """The seeds of each group that find `gap` with the chance POWER; None if it takes more than MOST."""
    return _first(lambda n: chance(gap, spread, (n, n), tests, quantum) >= POWER, ENOUGH_SEEDS, MOST)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest number from `low` to `high` from which on it holds; None if it does not hold at `high`."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
