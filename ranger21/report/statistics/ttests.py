"""Student's and Welch's t-tests of numbers of any size, and Holm's correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy.special import stdtr, stdtrit  # Student's t: its distribution function and quantiles

ENOUGH_SEEDS = 3  # in each group; with fewer there is no verdict
MATCHED_FOR_EACH_LEFT_OUT = 2

Seeds = Mapping[Any, float]  # a group: the value of each Seed


class TTest(NamedTuple):
    """A t-test whose family is not known yet; `mean` and its standard error are in units of `scale`."""

    mean: float
    error: float | None  # None without two values in each group, and without any spread of values of unknown quantum
    df: float
    scale: float
    n_a: int = 0
    n_b: int = 0
    paired: bool = False
    left_out: int = 0

    @property
    def p(self) -> float | None:
        """Two-sided."""
        return None if self.error is None else float(2 * stdtr(self.df, -abs(self.mean) / self.error))

    def p_within(self, margin: float) -> float | None:
        """Of two one-sided tests that the mean lies between -margin and margin (in the values' unit): the larger."""
        room = margin / self.scale - abs(self.mean)
        return None if self.error is None else float(stdtr(self.df, -room / self.error))

    def interval(self, confidence: float) -> tuple[float | None, float | None]:
        """Of the mean, in the values' unit."""
        if not 0 < confidence < 1:
            raise ValueError(f"A confidence of {confidence} is not between 0 and 1.")
        if self.error is None:
            return None, None
        half = self.error * -float(stdtrit(self.df, (1 - confidence) / 2))
        return (self.mean - half) * self.scale, (self.mean + half) * self.scale


def t_test(a: Seeds, b: Seeds, quantum: float = 0.0) -> TTest:
    """The test that `difference` describes, of groups that have a value."""
    scale = scale_of([*a.values(), *b.values(), quantum])
    common = [seed for seed in a if seed in b]
    left_out = len(a) + len(b) - 2 * len(common)
    least = math.sqrt(2) * least_error(quantum) / scale
    if len(common) >= max(ENOUGH_SEEDS, MATCHED_FOR_EACH_LEFT_OUT * left_out):
        n = len(common)
        mean, variance = moments([a[seed] / scale - b[seed] / scale for seed in common])
        error = max(math.sqrt((variance or 0.0) / n), least) or None
        return TTest(mean, error, n - 1, scale, n, n, True, left_out)
    (mean_a, variance_a), (mean_b, variance_b) = (moments([x / scale for x in group.values()]) for group in (a, b))
    mean = mean_a - mean_b
    if variance_a is None or variance_b is None:
        return TTest(mean, None, math.nan, scale, len(a), len(b))
    part_a, part_b = variance_a / len(a), variance_b / len(b)
    if not (whole := part_a + part_b):
        return TTest(mean, least or None, len(a) + len(b) - 2, scale, len(a), len(b))
    df = 1 / ((part_a / whole) ** 2 / (len(a) - 1) + (part_b / whole) ** 2 / (len(b) - 1))  # Welch–Satterthwaite
    return TTest(mean, max(math.sqrt(whole), least), df, scale, len(a), len(b))


def least_error(quantum: float) -> float:
    """The standard error that a mean of values in steps of `quantum` has at least: that of one rounded value.

    It does not fall with the number of values: where they spread by less than a step, all are rounded the same way.
    """
    return quantum / math.sqrt(12)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: the smallest times m, the next times m - 1, …, none below the one before, at most 1."""
    adjusted, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = least
    return adjusted


def scale_of(values: Sequence[float]) -> float:
    """A power of two near the largest magnitude: exact to divide by, and then no square overflows."""
    if not all(map(math.isfinite, values)):
        raise ValueError("A value is not finite.")
    largest = max(map(abs, values), default=0.0)
    return 2.0 ** (math.frexp(largest)[1] - 1) if largest else 1.0


def moments(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample variance (None for one value), the same in whatever order and exact for equal values."""
    n = len(values)
    if min(values) == max(values):
        return float(values[0]), 0.0 if n > 1 else None
    mean = math.fsum(values) / n
    return mean, math.fsum((value - mean) ** 2 for value in values) / (n - 1)
