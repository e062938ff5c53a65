"""An exact test of two groups of which some seeds failed: by ranks, in which a failure is below every value.

Not a t-test: values at chance, tens of points below the others, leave it with little power, and make it wrong where the
groups differ in size (a small one without a failure has hardly any spread). Not a permutation test of the means either,
which hears little but the counts of failures. And not a test paired by seed: with 5 seeds its smallest p is 0.06. Where
seeds have something in common, this one is somewhat too careful.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ranger21.report.statistics.ttests import Seeds

MOST_EXACT = 60  # values of both groups; with more, the normal distribution is as good


class Outcomes(dict[Any, float]):
    """The value of each seed, and which of them `failed`; what these count as in a mean is their value."""

    def __init__(self, values: Mapping[Any, float], failed: Iterable[Any] = ()) -> None:
        super().__init__(values)
        self.failed = frozenset(failed) & self.keys()


class RankTest(NamedTuple):
    """A test of ranks whose family is not known yet, with what a TTest has; it knows no interval and no margin."""

    mean: float
    p: float | None  # None without two values in each group
    n_a: int
    n_b: int
    failed: tuple[int, int]  # seeds of either group
    scale: float = 1.0
    paired: bool = False
    left_out: int = 0

    def p_within(self, margin: float) -> float:
        """Nothing shows that groups are as good as each other of which some seeds failed."""
        return 1.0

    def interval(self, confidence: float) -> tuple[None, None]:
        """There is none: means of values and of failures are far from normal."""
        return None, None


def failed_of(seeds: Seeds) -> frozenset[Any]:
    """Which seeds failed; none of a plain mapping."""
    return seeds.failed if isinstance(seeds, Outcomes) else frozenset()


def rank_test(a: Seeds, b: Seeds, higher_is_better: bool = True) -> RankTest:
    """Mann and Whitney's test of all seeds, exact for any ties, in the direction of the difference of the means.

    p is twice the share of all ways to split these values into groups of these sizes in which a, if its mean is the
    better one, ranks as high or higher: so a group whose mean is worse, as it lost more seeds, is never "better".
    Where every value of one group is below all of the other's, it also counts how many of them failed (`_apart`).
    """
    lost = (failed_of(a), failed_of(b))
    mean, sign = fmean(a.values()) - fmean(b.values()), 1.0 if higher_is_better else -1.0
    one, two = (
        [-math.inf if seed in failed else sign * value for seed, value in group.items()]
        for group, failed in zip((a, b), lost, strict=True)
    )
    counts = (len(lost[0]), len(lost[1]))
    above, below = (one, two) if sign * mean > 0 else (two, one)
    tail = _as_high(above, below)
    if min(above) > max(below):
        tail = min(tail, _apart(len(above), len(below), below.count(-math.inf)))
    p = min(1.0, 2 * tail if mean else 1.0) if min(len(one), len(two)) > 1 else None
    return RankTest(mean, p, len(one), len(two), counts)


def _as_high(one: list[float], two: list[float]) -> float:
    """The share of all splits in which the first group's sum of ranks is as high as it is, or higher."""
    if len(one) + len(two) > MOST_EXACT:
        return float(stats.mannwhitneyu(one, two, alternative="greater", method="asymptotic").pvalue)
    ranks = np.rint(2 * stats.rankdata([*one, *two])).astype(int)  # of ties the mean, so that twice a rank is whole
    ways = np.zeros((len(one) + 1, ranks.sum() + 1))  # how many choices of so many values have which sum of ranks
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank]
    found = ways[len(one)]
    return float(found[ranks[: len(one)].sum() :].sum() / found.sum())


def _apart(above: int, below: int, failed: int) -> float:
    """The probability of two groups apart, so many failed of the lower one or more, if both are drawn alike.

    The largest over all rates of failure: 1 / 2**10 if all of 5 failed and none of 5; the ranks alone say 1 / 252.
    """
    rate, n = np.linspace(0.0, 1.0, 2001), above + below
    probability = np.zeros_like(rate)
    for count in range(failed, below + 1):  # these failed, and of the others the lower group has the lowest
        ways = math.comb(below, count) / math.comb(n - count, below - count)
        probability += ways * rate**count * (1 - rate) ** (n - count)
    return float(probability.max())
