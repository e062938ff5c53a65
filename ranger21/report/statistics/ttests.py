"""Student's and Welch's t-tests, numerically safe for values of any magnitude, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy.special import stdtr, stdtrit  # Student's t: its distribution function and quantiles

ENOUGH_SEEDS = 3  # per group; with fewer there is no verdict
MATCHED_FOR_EACH_LEFT_OUT = 2

Seeds = Mapping[Any, float]  # the value of each seed of a group


class TTest(NamedTuple):
    """A t-test before the correction for multiple tests. `mean` and its standard `error` are in units of `scale`.

    `error` is None if a group has fewer than two values, and if the values are equal and their quantum is unknown.
    """

    mean: float
    error: float | None
    df: float
    scale: float
    n_a: int = 0
    n_b: int = 0
    paired: bool = False
    left_out: int = 0

    @property
    def p(self) -> float | None:
        """The two-sided p-value."""
        return None if self.error is None else float(2 * stdtr(self.df, -abs(self.mean) / self.error))

    def p_within(self, margin: float) -> float | None:
        """Return the larger p of two one-sided tests that the mean lies within ±margin (in the values' unit)."""
        room = margin / self.scale - abs(self.mean)
        return None if self.error is None else float(stdtr(self.df, -room / self.error))

    def interval(self, confidence: float) -> tuple[float | None, float | None]:
        """Return the confidence interval of the mean, in the values' unit."""
        if not 0 < confidence < 1:
            raise ValueError(f"A confidence of {confidence} is not between 0 and 1.")
        if self.error is None:
            return None, None
        half = self.error * -float(stdtrit(self.df, (1 - confidence) / 2))
        return (self.mean - half) * self.scale, (self.mean + half) * self.scale


def t_test(a: Seeds, b: Seeds, quantum: float = 0.0) -> TTest:
    """Run the paired or Welch's t-test, as `difference` in pairs.py describes. Both groups have values."""
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
    """Return the least standard error of a mean of values in steps of `quantum`: that of one rounded value.

    It does not fall with the number of values, because values that spread by less than a step all round the same way.
    """
    return quantum / math.sqrt(12)


def holm(p: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values: the smallest p times m, the next times m - 1, …, made monotone and at most 1."""
    adjusted, least = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = least
    return adjusted


def scale_of(values: Sequence[float]) -> float:
    """Return a power of two near the largest magnitude. Dividing by it is exact and keeps squares from overflowing."""
    if not all(map(math.isfinite, values)):
        raise ValueError("A value is not finite.")
    largest = max(map(abs, values), default=0.0)
    return 2.0 ** (math.frexp(largest)[1] - 1) if largest else 1.0


def moments(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample variance (None for one value), independent of order and exact for equal values."""
    n = len(values)
    if min(values) == max(values):
        return float(values[0]), 0.0 if n > 1 else None
    mean = math.fsum(values) / n
    return mean, math.fsum((value - mean) ** 2 for value in values) / (n - 1)
