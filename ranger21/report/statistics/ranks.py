"""An exact rank test of two groups in which some seeds failed. A failure ranks below every value.

Why not another test:

- A t-test has little power if some values are at chance, tens of points below the others. It is wrong if the groups
  differ in size, since a small group without a failure has hardly any spread.
- A permutation test of the means depends on little but the numbers of failures.
- A test paired by seed cannot reach a p below 0.06 with 5 seeds. The rank test ignores the pairing, which makes it
  somewhat conservative if paired seeds are correlated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ranger21.report.statistics.ttests import Seeds

MOST_EXACT = 60  # values in both groups together; with more, the normal approximation is accurate


class Outcomes(dict[Any, float]):
    """The value of each seed, and the set of seeds that `failed`, whose values are those that a failure counts as."""

    def __init__(self, values: Mapping[Any, float], failed: Iterable[Any] = ()) -> None:
        super().__init__(values)
        self.failed = frozenset(failed) & self.keys()


class RankTest(NamedTuple):
    """A rank test before the correction for multiple tests, with the interface of TTest but no interval or margin."""

    mean: float
    p: float | None  # None if a group has fewer than two values
    n_a: int
    n_b: int
    failed: tuple[int, int]  # number of failed seeds in each group
    scale: float = 1.0
    paired: bool = False
    left_out: int = 0

    def p_within(self, margin: float) -> float:
        """Return 1: groups with failed seeds are never shown to be equivalent."""
        return 1.0

    def interval(self, confidence: float) -> tuple[None, None]:
        """Return no interval: means that include failures are far from normal."""
        return None, None


def failed_of(seeds: Seeds) -> frozenset[Any]:
    """Return the seeds that failed; a plain mapping has none."""
    return seeds.failed if isinstance(seeds, Outcomes) else frozenset()


def rank_test(a: Seeds, b: Seeds, higher_is_better: bool = True) -> RankTest:
    """Run Mann and Whitney's test over all seeds, exact for any ties, in the direction of the difference of the means.

    p is twice the share of all splits of these values into groups of these sizes in which the group with the better
    mean ranks at least as high as it does here. A group with the worse mean, because it lost more seeds, is therefore
    never "better". If every value of one group is below all values of the other, p also takes into account how many
    of the lower values are failures (`_separation_probability`).
    """
    lost = (failed_of(a), failed_of(b))
    mean, sign = fmean(a.values()) - fmean(b.values()), 1.0 if higher_is_better else -1.0
    one, two = (
        [-math.inf if seed in failed else sign * value for seed, value in group.items()]
        for group, failed in zip((a, b), lost, strict=True)
    )
    counts = (len(lost[0]), len(lost[1]))
    above, below = (one, two) if sign * mean > 0 else (two, one)
    tail = _upper_tail(above, below)
    if min(above) > max(below):
        tail = min(tail, _separation_probability(len(above), len(below), below.count(-math.inf)))
    p = min(1.0, 2 * tail if mean else 1.0) if min(len(one), len(two)) > 1 else None
    return RankTest(mean, p, len(one), len(two), counts)


def _upper_tail(one: list[float], two: list[float]) -> float:
    """Return the share of all splits in which the first group's rank sum is at least the observed one."""
    if len(one) + len(two) > MOST_EXACT:
        return float(stats.mannwhitneyu(one, two, alternative="greater", method="asymptotic").pvalue)
    ranks = np.rint(2 * stats.rankdata([*one, *two])).astype(int)  # doubled, as ties get the mean of their ranks
    ways = np.zeros((len(one) + 1, ranks.sum() + 1))  # [k, s]: the number of choices of k values with rank sum s
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank]
    found = ways[len(one)]
    return float(found[ranks[: len(one)].sum() :].sum() / found.sum())


def _separation_probability(above: int, below: int, failed: int) -> float:
    """Return the probability that equal distributions give separated groups, the lower with `failed` failures or more.

    It is the maximum over all failure rates: 1 / 2**10 if all of 5 seeds failed and none of 5 others, whereas the ranks
    alone give 1 / 252.
    """
    rate, n = np.linspace(0.0, 1.0, 2001), above + below
    probability = np.zeros_like(rate)
    for count in range(failed, below + 1):  # `count` seeds fail, and the lower group has the lowest of the others
        ways = math.comb(below, count) / math.comb(n - count, below - count)
        probability += ways * rate**count * (1 - rate) ** (n - count)
    return float(probability.max())
