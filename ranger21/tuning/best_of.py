"""What a tuner gets who stops after k of n trials: the best of k, over all orders in which they could have come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

SHARE = Fraction(95, 100)  # of the orders, which lie between `low` and `high`


@dataclass(frozen=True)
class BestOf:
    """The best of k trials: its mean over all orders, and the limits between which it lies in 95 % of them."""

    k: int
    mean: float
    low: float
    high: float


def best_of(values: Sequence[float], k: int) -> BestOf:
    """Return the best of the first k trials over all orders of all trials, by counting them: nothing is drawn.

    The best of k is the i-th smallest of n in C(i - 1, k - 1) of C(n, k) choices. It is what a bootstrap over orders
    comes to. Of k = n there is one: the best of all.

    Args:
        values: of each trial, the higher the better, all finite.
        k: from 1 to their count. Raises a ValueError for another.
    """
    if not 1 <= k <= len(values):
        raise ValueError(f"the best of {k} of {len(values)} trials")
    ordered = sorted(values)
    shares = [Fraction(comb(place, k - 1), comb(len(ordered), k)) for place in range(len(ordered))]
    mean = float(sum(share * Fraction(value) for share, value in zip(shares, ordered, strict=True)))
    outside = (1 - SHARE) / 2
    return BestOf(k, mean, _quantile(ordered, shares, outside), _quantile(ordered, shares, 1 - outside))


def _quantile(ordered: Sequence[float], shares: Sequence[Fraction], wanted: Fraction) -> float:
    """The least value that at least this share of the choices does not exceed."""
    below = Fraction(0)
    for value, share in zip(ordered, shares, strict=True):
        below += share
        if below >= wanted:
            return value
    return ordered[-1]
