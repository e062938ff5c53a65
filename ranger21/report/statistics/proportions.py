"""Proportions, such as the share of runs that diverge: their intervals, and tests of two groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from scipy import stats

from ranger21.report.statistics.ttests import ENOUGH_SEEDS, holm
from ranger21.report.statistics.verdicts import after_holm
from ranger21.system.wording import counted

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Proportion:
    """How often an event happened: `count` times in `n` independent trials."""

    count: int
    n: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Clopper and Pearson's 95 % interval, between 0 and 1; None if n is 0."""
        return share_interval(self.count, self.n) if self.n else None

    @property
    def percent(self) -> str:
        """The interval as text, in per cent."""
        low, high = self.interval or (0.0, 1.0)
        return f"{100 * low:.0f} to {100 * high:.0f} %"

    def __str__(self) -> str:
        return f"{self.count} of {self.n} ({self.percent})" if self.n else "0"


@dataclass(frozen=True)
class Contrast:
    """Fisher's exact test (two-sided) of two proportions.

    Attributes:
        p_adjusted: the p-value after Holm's correction; None, without a verdict, unless both groups have ENOUGH_SEEDS.
        family: the number of pairs that the correction covers.
    """

    a: Proportion
    b: Proportion
    p: float
    p_adjusted: float | None
    family: int

    @property
    def mean(self) -> float:
        """The proportion of a minus that of b, in points."""
        return 100 * (self.a.count / self.a.n - self.b.count / self.b.n)

    @property
    def verdict(self) -> Literal["more often", "less often", "cannot tell"]:
        """Whether the event happens more often in a than in b."""
        if self.p_adjusted is None or self.p_adjusted >= 1 - CONFIDENCE:
            return "cannot tell"
        return "more often" if self.mean > 0 else "less often"

    def sentence(self, a: str, b: str, does: str) -> str:
        """Return the result as a sentence.

        Args:
            a: the label of group a.
            b: the label of group b.
            does: the event as a verb, such as "diverges".
        """
        counts = f"{self.a.count} of {counted(self.a.n, 'seed')} against {self.b.count} of {self.b.n}"
        if self.p_adjusted is None:
            return f"Too few seeds to tell whether {a} {does} more often than {b}: {counts}."
        test = f"{counts}, Fisher's exact test, {after_holm(self.p_adjusted, self.family)}"
        if self.verdict == "cannot tell":
            return f"Cannot tell whether {a} or {b} {does} more often ({test})."
        return f"{a} {does} {self.verdict} than {b} ({test})."


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Return Clopper and Pearson's interval (1934) of a proportion: `count` of `n`, which is at least 1."""
    interval = stats.binomtest(count, n).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def contrasts(shares: Mapping[str, Proportion]) -> list[tuple[str, str, Contrast]]:
    """Compare every pair of groups in at least one of which the event happened, in the order of the groups.

    Groups without trials are left out. Holm's correction covers the pairs with ENOUGH_SEEDS in both groups.
    """
    tried = [label for label, share in shares.items() if share.n]
    pairs = [(a, b) for a, b in combinations(tried, 2) if shares[a].count or shares[b].count]
    p = {pair: _fisher(*(shares[label] for label in pair)) for pair in pairs}
    tested = [pair for pair in pairs if min(shares[label].n for label in pair) >= ENOUGH_SEEDS]
    adjusted = dict(zip(tested, holm([p[pair] for pair in tested]), strict=True))
    return [(a, b, Contrast(shares[a], shares[b], p[a, b], adjusted.get((a, b)), len(tested))) for a, b in pairs]


def _fisher(a: Proportion, b: Proportion) -> float:
    return float(stats.fisher_exact([[a.count, a.n - a.count], [b.count, b.n - b.count]]).pvalue)
