"""The expected best of k out of n trials, over all orders of the trials: what tuning with k trials would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

SHARE = Fraction(95, 100)  # the share of all orders whose result lies between `low` and `high`


@dataclass(frozen=True)
class BestOf:
    """The best of k trials: its mean over all orders, and the limits within which it lies in 95 % of them."""

    k: int
    mean: float
    low: float
    high: float


def best_of(values: Sequence[float], k: int) -> BestOf:
    """Return the best of the first k trials over all orders of the trials, computed exactly.

    The best of k is the i-th smallest of n values in C(i - 1, k - 1) of C(n, k) choices. This is the limit of a
    bootstrap over orders.

    Args:
        values: the finite result of each trial; higher is better.
        k: the number of trials to stop after.

    Raises:
        ValueError: k is not between 1 and the number of values.
    """
    if not 1 <= k <= len(values):
        raise ValueError(f"k is {k}, but must be between 1 and the number of trials, {len(values)}.")
    ordered = sorted(values)
    shares = [Fraction(comb(place, k - 1), comb(len(ordered), k)) for place in range(len(ordered))]
    mean = float(sum(share * Fraction(value) for share, value in zip(shares, ordered, strict=True)))
    outside = (1 - SHARE) / 2
    return BestOf(k, mean, _quantile(ordered, shares, outside), _quantile(ordered, shares, 1 - outside))


def _quantile(ordered: Sequence[float], shares: Sequence[Fraction], wanted: Fraction) -> float:
    """Return the least value that at least this share of the choices does not exceed."""
    below = Fraction(0)
    for value, share in zip(ordered, shares, strict=True):
        below += share
        if below >= wanted:
            return value
    return ordered[-1]
