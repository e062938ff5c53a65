"""Statistical power: how many seeds detect a gap, and which gap a number of seeds detects.

A gap is detected if the test's p is below 5 % after the correction and the sign is right. For normal noise the power is
computed, not simulated. For paired tests it comes from the noncentral t distribution; for Welch's test it is the mean
of such powers over how the sample variance splits between the groups. The correction is Bonferroni's over all pairs:
Holm's is equal to it for the smallest p, and milder for the others.
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

POWER = 0.8  # the probability of detecting the gap
MOST = 10_000  # the largest number of seeds that is considered
SHARES = (np.arange(50) + 0.5) / 50  # quantiles to average Welch's test over; 50 give three correct digits


@dataclass(frozen=True)
class Spread:
    """The spread over seeds, in the values' unit.

    Attributes:
        sds: one standard deviation, that of paired differences; or two, those of the groups.
        seen: degrees of freedom that the estimate rests on; infinite if the spread is assumed, not estimated.
    """

    sds: tuple[float, ...]
    seen: float = math.inf

    @property
    def sd(self) -> float:
        """The standard deviation of the differences, or the root mean square of both groups' standard deviations."""
        return math.hypot(*self.sds) / math.sqrt(len(self.sds))

    def ends(self, confidence: float = 0.95) -> tuple[Spread, Spread]:
        """Return both ends of the confidence interval of the spread, for normal noise."""
        tails = ((1 - confidence) / 2, (1 + confidence) / 2)
        low, high = (math.sqrt(self.seen / float(chdtri(self.seen, tail))) for tail in tails)
        return self.times(low), self.times(high)

    def times(self, factor: float) -> Spread:
        """Return the spread multiplied by a factor."""
        return Spread(tuple(sd * factor for sd in self.sds), self.seen)


def paired_spread(a: Seeds, b: Seeds) -> Spread | None:
    """Return the spread of the paired differences; None if fewer than two seeds are in common."""
    common = [a[seed] - b[seed] for seed in a if seed in b]
    variance = moments(common)[1] if common else None
    return None if variance is None else Spread((math.sqrt(variance),), len(common) - 1)


def unpaired_spread(a: Seeds, b: Seeds) -> Spread | None:
    """Return the spreads of two groups; None if one of them has fewer than two values."""
    variance_a, variance_b = (moments(list(group.values()))[1] if group else None for group in (a, b))
    if variance_a is None or variance_b is None:
        return None
    whole = variance_a + variance_b
    parts = variance_a**2 / (len(a) - 1) + variance_b**2 / (len(b) - 1)
    seen = whole**2 / parts if parts else len(a) + len(b) - 2  # Welch–Satterthwaite
    return Spread((math.sqrt(variance_a), math.sqrt(variance_b)), seen)


def chance(gap: float, spread: Spread, n: tuple[int, int], tests: int = 1, quantum: float = 0.0) -> float:
    """Return the power to detect a gap, at a level of 5 % over all tests.

    Args:
        n: the number of seeds in each group, at least two; equal numbers for paired seeds.
        tests: the number of tests that the correction covers.
        quantum: the step between possible values, which bounds the standard error from below, as in the tests.
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
    share = betaincinv(freedom[0] / 2, freedom[1] / 2, SHARES)  # the first group's part of the sum of both chi-squares
    a, b = (
        (sd / error) ** 2 / seeds * df * part / (seeds - 1)
        for sd, seeds, part in zip(spread.sds, n, (share, 1 - share), strict=True)
    )
    welch = (a + b) ** 2 / (a**2 / freedom[0] + b**2 / freedom[1])
    return float(np.mean(_beyond(-stdtrit(welch, level) * np.sqrt(a + b), df, shift)))


def _beyond(critical: Array, df: float, shift: float) -> Array:
    """Return the probability of a noncentral t above the critical values; 1 where scipy underflows to NaN."""
    return 1 - np.nan_to_num(nctdtr(df, shift, critical), nan=0.0)


def gap_found(spread: Spread, n: tuple[int, int], tests: int = 1, quantum: float = 0.0) -> float:
    """Return the gap that these numbers of seeds detect with probability POWER."""
    high = max(math.hypot(*spread.sds), quantum)
    while chance(high, spread, n, tests, quantum) < POWER:
        high *= 2
    return float(brentq(lambda gap: chance(gap, spread, n, tests, quantum) - POWER, 0.0, high)) if high else 0.0


def seeds_needed(gap: float, spread: Spread, tests: int = 1, quantum: float = 0.0) -> int | None:
    """Return the number of seeds per group that detects `gap` with probability POWER; None if it is above MOST."""
    return _first(lambda n: chance(gap, spread, (n, n), tests, quantum) >= POWER, ENOUGH_SEEDS, MOST)


def _first(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the smallest number in `low` … `high` from which on `holds` is true; None if it is false at `high`."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
