"""The verdict on the difference of two groups, and the sentence that reports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ranger21.report.statistics.equivalence import Equivalence
from ranger21.report.statistics.ttests import ENOUGH_SEEDS

Verdict = Literal["better", "worse", "equivalent", "cannot tell"]


@dataclass(frozen=True)
class Difference:
    """The difference of two groups, mean a - mean b, in the values' unit, with its test and verdict.

    The verdict follows `p_adjusted`. It is "equivalent" if no difference is shown, but it is shown that the difference
    is smaller than the margin. If both are shown, the verdict is "better" or "worse" with `equivalence.within`.

    There is no p and no interval if a group has fewer than two values, or if all values are equal and their quantum is
    unknown. With fewer than ENOUGH_SEEDS nothing is adjusted.

    Attributes:
        low: lower end of the interval of this difference alone; None if a seed failed.
        high: upper end of that interval.
        p: the two-sided p-value; that of the rank test if a seed failed.
        p_adjusted: the p-value after Holm's correction.
        low_adjusted: lower end of the interval that holds for all pairs of the family at once (Bonferroni). Holm's
            correction is sharper, so this interval can include 0 although the verdict is "better" or "worse".
        high_adjusted: upper end of that interval.
        n_a: the number of seeds of a that the difference uses.
        n_b: the number of seeds of b that the difference uses.
        left_out: seeds without a partner in the other group, if paired.
        family: the number of pairs that the correction covers.
        equivalence: None if there is no margin or there are fewer than ENOUGH_SEEDS seeds.
        failed: the numbers of failed seeds of a and b, which enter the mean with the value that a failure counts as.
    """

    mean: float
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    low_adjusted: float | None
    high_adjusted: float | None
    n_a: int
    n_b: int
    paired: bool
    left_out: int
    family: int
    confidence: float
    verdict: Verdict
    equivalence: Equivalence | None = None
    failed: tuple[int, int] = (0, 0)

    @property
    def test(self) -> str:
        """The test that p comes from: "ranks" if a seed failed, otherwise "paired t" or "Welch"."""
        return "ranks" if any(self.failed) else "paired t" if self.paired else "Welch"

    def sentence(self, a: str, b: str, unit: str = "", digits: int = 2) -> str:
        """Return the verdict as a sentence about the groups labelled `a` and `b`."""
        counts, unit = f"n = {self.n_a} and {self.n_b}", unit and f" {unit}"
        with_all = ", diverged runs included" if any(self.failed) else ""
        amount = f"{_decimals(self.mean, digits)}{unit}{with_all}"
        if min(self.n_a, self.n_b) < ENOUGH_SEEDS:
            text = f"Too few seeds to tell whether {a} is better than {b} ({counts}; at least {ENOUGH_SEEDS} needed)"
            return f"{text}: the difference so far is {amount}."
        doubt = f"Cannot tell whether {a} is better than {b} with {counts}: the difference is {amount}"
        if self.p_adjusted is None:
            return f"{doubt} for every seed, and without any spread its uncertainty is unknown."
        if self.verdict == "cannot tell":
            return f"{doubt} ({self._details(digits)})."
        if self.verdict == "equivalent" and self.equivalence:
            text = f"{a} and {b} are equivalent within {self.equivalence.margin:g}{unit}: the difference is"
            return f"{text} {_decimals(self.mean, digits)}{unit} ({self._closeness(digits, counts)})."
        text = f"{a} is {self.verdict} than {b} by {_decimals(abs(self.mean), digits)}{unit}{with_all}"
        if self.equivalence and self.equivalence.within:
            text += f", but by less than the margin of {self.equivalence.margin:g}{unit}"
        return f"{text} ({self._details(digits, counts)})."

    def brief(self, a: str, b: str, unit: str = "", digits: int = 2) -> str:
        """Return the verdict in few words, without intervals; p is after Holm's correction."""
        amount = f"{_decimals(self.mean, digits)}{unit and f' {unit}'}"
        p = self.equivalence.p_adjusted if self.equivalence and self.verdict == "equivalent" else self.p_adjusted
        sure = "" if p is None else f", {show_p(p)}"
        if self.verdict == "equivalent" and self.equivalence:
            return (
                f"{a} and {b} are equivalent within {self.equivalence.margin:g}{unit and f' {unit}'} ({amount}{sure})."
            )
        if self.verdict == "cannot tell":
            few = min(self.n_a, self.n_b) < ENOUGH_SEEDS
            why = f", too few seeds (n = {self.n_a} and {self.n_b})" if few else sure
            return f"Cannot tell whether {a} is better than {b} ({amount}{why})."
        return f"{a} is {self.verdict} than {b} by {amount.removeprefix('-')}{sure and f' ({sure[2:]})'}."

    def _details(self, digits: int, *counts: str) -> str:
        """Return the text in brackets. After "better by" and "worse by" the interval has the sign of the amount."""
        if any(self.failed):
            return ", ".join(["rank test", after_holm(self.p_adjusted or 0.0, self.family), *counts])
        amount = self.verdict != "cannot tell" and self.mean < 0
        low, high = (-(self.high or 0.0), -(self.low or 0.0)) if amount else (self.low or 0.0, self.high or 0.0)
        said = [f"{100 * self.confidence:g} % interval {_decimals(low, digits)} to {_decimals(high, digits)}"]
        if self.verdict == "cannot tell" and (low > 0 or high < 0):
            wide = " to ".join(_decimals(end or 0.0, digits) for end in (self.low_adjusted, self.high_adjusted))
            said = [f"{said[0]} for this pair alone", f"{wide} for all {self.family} pairs together"]
        said.append(after_holm(self.p_adjusted or 0.0, self.family))
        if self.verdict != "cannot tell" and self.equivalence and self.equivalence.within:
            said.append(f"and {show_p(self.equivalence.p_adjusted)} for less than the margin")
        return ", ".join([*said, *self._pairing(counts)])

    def _closeness(self, digits: int, counts: str) -> str:
        """Return the text in brackets of "equivalent"."""
        found = self.equivalence
        if found is None:
            return counts
        level = 100 * (1 - 2 * (1 - self.confidence))
        interval = f"{level:g} % interval {_decimals(found.low, digits)} to {_decimals(found.high, digits)}"
        return ", ".join([interval, after_holm(found.p_adjusted, self.family), *self._pairing([counts])])

    def _pairing(self, counts: Sequence[str]) -> list[str]:
        said = [*counts, "paired by seed"] if self.paired else [*counts]
        return said + ([f"{self.left_out} unpaired left out"] if self.left_out else [])


def after_holm(p: float, family: int) -> str:
    """Return an adjusted p as text, with the number of pairs that the correction covers."""
    return show_p(p) + (f" after Holm's correction over {family} pairs" if family > 1 else "")


def _decimals(value: float, digits: int) -> str:
    """Return a number with this many decimals, and without a minus sign before zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def show_p(p: float) -> str:
    """Return `p = …`, with more decimals for smaller values."""
    return f"p = {p:.{2 if p >= 0.1 else 3 if p >= 0.01 else 4}f}" if p >= 1e-4 else "p < 0.0001"
