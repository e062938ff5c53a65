"""What can be said of the difference of two groups, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ranger21.report.statistics.equivalence import Equivalence
from ranger21.report.statistics.ttests import ENOUGH_SEEDS

Verdict = Literal["better", "worse", "equivalent", "cannot tell"]


@dataclass(frozen=True)
class Difference:
    """Of two groups a and b: mean a - mean b in the values' unit, and what can be said of it.

    `low, high` is the interval of this difference alone; `low_adjusted, high_adjusted` holds for all pairs of the
    family at once (Bonferroni's). `p` is two-sided; `p_adjusted` is Holm's, and the verdict follows it. Holm's is the
    sharper: an adjusted interval may hold 0 beside "better" or "worse", but always does beside the others.
    "equivalent" is the verdict where no difference is shown, and that it is smaller than the margin is; both can be
    shown of one pair, which is then "better" or "worse", with `equivalence.within`.
    Where a seed `failed`, p is the rank test's, and there is no interval.
    Without two values in each group there is no p and no interval, nor without any spread where the values' quantum is
    not known; without ENOUGH_SEEDS nothing is adjusted.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    low_adjusted: float | None
    high_adjusted: float | None
    n_a: int  # seeds that the difference is taken over
    n_b: int
    paired: bool
    left_out: int  # seeds of either group without a partner in the other, if paired
    family: int  # how many pairs the correction is for
    confidence: float
    verdict: Verdict
    equivalence: Equivalence | None = None  # None without a margin or without ENOUGH_SEEDS
    failed: tuple[int, int] = (0, 0)  # seeds of a and of b: in the mean they are what a failure counts as

    @property
    def test(self) -> str:
        """Which test p is of: "ranks" where a seed failed, else "paired t" or "Welch"."""
        return "ranks" if any(self.failed) else "paired t" if self.paired else "Welch"

    def sentence(self, a: str, b: str, unit: str = "", digits: int = 2) -> str:
        """What to tell a reader of the groups `a` and `b`; amounts have so many decimals."""
        counts, unit = f"n = {self.n_a} and {self.n_b}", unit and f" {unit}"
        with_all = " with diverged runs counted in" if any(self.failed) else ""
        doubt = f"Whether {a} is better than {b} we cannot tell with"
        if min(self.n_a, self.n_b) < ENOUGH_SEEDS:
            so_far = f"The difference so far is {_decimals(self.mean, digits)}{unit}{with_all}."
            return f"{doubt} too few seeds ({counts}): at least {ENOUGH_SEEDS} are needed. {so_far}"
        if self.p_adjusted is None:
            text = f"{doubt} {counts}: the difference is {_decimals(self.mean, digits)}{unit}"
            return f"{text} for every seed alike, and without any spread nothing tells how sure that is."
        if self.verdict == "cannot tell":
            text = f"{doubt} {counts}: the difference is {_decimals(self.mean, digits)}{unit}{with_all}"
            return f"{text} ({self._details(digits)})."
        if self.verdict == "equivalent" and self.equivalence:
            text = f"{a} and {b} are equivalent within {self.equivalence.margin:g}{unit}: the difference is"
            return f"{text} {_decimals(self.mean, digits)}{unit} ({self._closeness(digits, counts)})."
        text = f"{a} is {self.verdict} than {b} by {_decimals(abs(self.mean), digits)}{unit}{with_all}"
        if self.equivalence and self.equivalence.within:
            text += f", but by less than the margin of {self.equivalence.margin:g}{unit}"
        return f"{text} ({self._details(digits, counts)})."

    def _details(self, digits: int, *counts: str) -> str:
        """What stands in the brackets; beside "better by" and "worse by" the interval is of the amount."""
        if any(self.failed):
            return ", ".join(["rank test", after_holm(self.p_adjusted or 0.0, self.family), *counts])
        amount = self.verdict != "cannot tell" and self.mean < 0
        low, high = (-(self.high or 0.0), -(self.low or 0.0)) if amount else (self.low or 0.0, self.high or 0.0)
        said = [f"{100 * self.confidence:g} % interval {_decimals(low, digits)} to {_decimals(high, digits)}"]
        if self.verdict == "cannot tell" and (low > 0 or high < 0):
            wide = " to ".join(_decimals(end or 0.0, digits) for end in (self.low_adjusted, self.high_adjusted))
            said = [f"{said[0]} for this pair alone", f"{wide} for all {self.family} pairs at once"]
        said.append(after_holm(self.p_adjusted or 0.0, self.family))
        if self.verdict != "cannot tell" and self.equivalence and self.equivalence.within:
            said.append(f"and {show_p(self.equivalence.p_adjusted)} for less than the margin")
        return ", ".join([*said, *self._pairing(counts)])

    def _closeness(self, digits: int, counts: str) -> str:
        """What stands in the brackets of "equivalent"."""
        found = self.equivalence
        if found is None:
            return counts
        level = 100 * (1 - 2 * (1 - self.confidence))
        interval = f"{level:g} % interval {_decimals(found.low, digits)} to {_decimals(found.high, digits)}"
        return ", ".join([interval, after_holm(found.p_adjusted, self.family), *self._pairing([counts])])

    def _pairing(self, counts: Sequence[str]) -> list[str]:
        said = [*counts, "paired by seed"] if self.paired else [*counts]
        return said + ([f"{self.left_out} without a partner left out"] if self.left_out else [])


def after_holm(p: float, family: int) -> str:
    """An adjusted p in words, and how many pairs the correction is for."""
    return show_p(p) + (f" after Holm over {family} pairs" if family > 1 else "")


def _decimals(value: float, digits: int) -> str:
    """With so many decimals, and no minus before zeros."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def show_p(p: float) -> str:
    """With more decimals for a smaller p."""
    return f"p = {p:.{2 if p >= 0.1 else 3 if p >= 0.01 else 4}f}" if p >= 1e-4 else "p < 0.0001"
