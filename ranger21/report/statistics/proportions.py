"""How often something happens, such as a divergence: the share's interval, and whether two groups differ in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from scipy import stats

from ranger21.report.statistics.ttests import ENOUGH_SEEDS, holm
from ranger21.report.statistics.verdicts import after_holm

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Share:
    """Of `n` independent tries the `count` in which it happened."""

    count: int
    n: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """Clopper and Pearson's, between 0 and 1; None without a try."""
        return share_interval(self.count, self.n) if self.n else None

    @property
    def percent(self) -> str:
        """The interval in words."""
        low, high = self.interval or (0.0, 1.0)
        return f"{100 * low:.0f} to {100 * high:.0f} %"

    def __str__(self) -> str:
        return f"{self.count} of {self.n} ({self.percent})" if self.n else "0"


@dataclass(frozen=True)
class Contrast:
    """The shares of two groups: Fisher's exact test (two-sided), by itself and after Holm's correction.

    Without ENOUGH_SEEDS in both there is nothing adjusted, and no verdict.
    """

    a: Share
    b: Share
    p: float
    p_adjusted: float | None
    family: int  # how many pairs the correction is for

    @property
    def mean(self) -> float:
        """The share of a less that of b, in points."""
        return 100 * (self.a.count / self.a.n - self.b.count / self.b.n)

    @property
    def verdict(self) -> Literal["more often", "less often", "cannot tell"]:
        """Of a."""
        if self.p_adjusted is None or self.p_adjusted >= 1 - CONFIDENCE:
            return "cannot tell"
        return "more often" if self.mean > 0 else "less often"

    def sentence(self, a: str, b: str, does: str) -> str:
        """What to tell a reader of the groups `a` and `b` of which a run sometimes `does` it."""
        counts = f"{self.a.count} of {self.a.n} seeds against {self.b.count} of {self.b.n}"
        if self.p_adjusted is None:
            return f"Whether {a} {does} more often than {b} we cannot tell with too few seeds: {counts}."
        test = f"{counts}, Fisher's exact test, {after_holm(self.p_adjusted, self.family)}"
        if self.verdict == "cannot tell":
            return f"Whether {a} or {b} {does} more often we cannot tell ({test})."
        return f"{a} {does} {self.verdict} than {b} ({test})."


def share_interval(count: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's interval (1934) of a share of which `count` of `n` (at least 1) were seen."""
    interval = stats.binomtest(count, n).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def contrasts(shares: Mapping[str, Share]) -> list[tuple[str, str, Contrast]]:
    """Every pair of groups that have a try, and in at least one of which it happened, in the groups' order.

    These pairs, with ENOUGH_SEEDS in both groups, are the family of the correction: where it never happened, there is
    nothing to tell apart.
    """
    tried = [label for label, share in shares.items() if share.n]
    pairs = [(a, b) for a, b in combinations(tried, 2) if shares[a].count or shares[b].count]
    p = {pair: _fisher(*(shares[label] for label in pair)) for pair in pairs}
    tested = [pair for pair in pairs if min(shares[label].n for label in pair) >= ENOUGH_SEEDS]
    adjusted = dict(zip(tested, holm([p[pair] for pair in tested]), strict=True))
    return [(a, b, Contrast(shares[a], shares[b], p[a, b], adjusted.get((a, b)), len(tested))) for a, b in pairs]


def _fisher(a: Share, b: Share) -> float:
    return float(stats.fisher_exact([[a.count, a.n - a.count], [b.count, b.n - b.count]]).pvalue)
