"""How often a run of one optimizer is better than a run of another, over several workloads, and how sure that is.

The probability of improvement of Agarwal et al. (2021), each workload weighing the same: P(A > B) + P(A = B) / 2, which
is Mann and Whitney's U as a share. It looks at ranks within a workload alone, so that no scale has to be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from ranger21.report.runs.metrics import Array

CONFIDENCE = 0.95
LARGEST_STRATUM = 80  # runs of both optimizers on one workload, up to which p is exact
LARGEST_GRID = 500_000  # values that the mean can have, up to which p is exact

Values = Sequence[float]
Strata = Sequence[tuple[Values, Values]]  # for each workload the values of A and of B, higher is better, -inf the worst


@dataclass(frozen=True)
class Superiority:
    """The probability that a run of A is better than one of B: the mean over the workloads, and on each of them."""

    probability: float
    low: float
    high: float
    p: float  # two-sided, of there being no difference on any workload
    each: tuple[float, ...]


def superiority(strata: Strata) -> Superiority:
    """Over at least one workload, each with values of both.

    `p` is that of the permutation test that exchanges runs within each workload: exact, with ties, up to
    LARGEST_STRATUM, else by the normal approximation. The interval is Newcombe's (2006, method 5), of the mean.
    """
    each = tuple(_share(np.array(a), np.array(b)) for a, b in strata)
    probability = math.fsum(each) / len(each)
    return Superiority(probability, *_interval(probability, strata), _p(each, strata), each)


def _share(a: Array, b: Array) -> float:
    return float((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2)


def _interval(probability: float, strata: Strata) -> tuple[float, float]:
    """Where the distance to the probability is that many standard errors, as they are there and not here."""
    sizes = [(len(a), len(b)) for a, b in strata]
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))

    def error(at: float) -> float:
        shape = (1 - at) / (2 - at) + at / (1 + at)
        variances = [at * (1 - at) * (1 + ((m + n) / 2 - 1) * shape) / (m * n) for m, n in sizes]
        return math.sqrt(math.fsum(variances)) / len(sizes)

    def beyond(at: float) -> float:
        return abs(probability - at) - z * error(at)

    low = brentq(beyond, 0.0, min(probability, 1 - 1e-12)) if probability > 0 else 0.0
    high = brentq(beyond, max(probability, 1e-12), 1.0) if probability < 1 else 1.0
    return float(low), float(high)


def _p(each: Sequence[float], strata: Strata) -> float:
    steps = [2 * len(a) * len(b) for a, b in strata]  # of a share on one workload, ties counting half
    whole = math.lcm(*steps)
    if whole * len(steps) > LARGEST_GRID or max(len(a) + len(b) for a, b in strata) > LARGEST_STRATUM:
        return _approximate_p(each, strata)
    sums, chances = _by_lot(tuple(sorted(_Stratum.of(a, b) for a, b in strata)), whole)
    observed = sum(round(share * step) * (whole // step) for share, step in zip(each, steps, strict=True))
    middle = whole * len(steps)  # twice the expected sum
    return min(1.0, float(chances[np.abs(2 * sums - middle) >= abs(2 * observed - middle)].sum()))


class _Stratum(NamedTuple):
    """What the values of a workload would be by lot depends on: how many there are, and which are equal."""

    a: int
    b: int
    ties: tuple[int, ...]  # how many values are equal, from the lowest on

    @classmethod
    def of(cls, a: Values, b: Values) -> _Stratum:
        return cls(len(a), len(b), tuple(np.unique([*a, *b], return_counts=True)[1].tolist()))


@lru_cache(maxsize=64)
def _by_lot(strata: tuple[_Stratum, ...], whole: int) -> tuple[NDArray[Any], Array]:
    """The sums of shares, times `whole`, that values can have that belong to A and to B by lot; and their chances."""
    sums: NDArray[Any] = np.zeros(1, np.int64)
    chances: Array = np.ones(1)
    for stratum in strata:
        chance = _by_lot_of_one(stratum)
        places = np.arange(len(chance)) * (whole // (len(chance) - 1))
        found: NDArray[Any] = np.bincount(
            np.add.outer(sums, places).ravel(), np.multiply.outer(chances, chance).ravel()
        )
        sums = np.flatnonzero(found)
        chances = found[sums]
    return sums, chances


def _by_lot_of_one(stratum: _Stratum) -> Array:
    """The chance of each value of 2 U, from 0 to 2 a b."""
    n, last = stratum.a, 0
    ways = np.zeros((n + 1, (n + stratum.b) * (n + stratum.b + 1) + 1))
    ways[0, 0] = 1.0
    for count in stratum.ties:
        rank = 2 * last + count + 1  # twice the mean rank of those that are equal
        last += count
        for _ in range(count):
            ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    least = n * (n + 1)
    found: Array = ways[n, least : least + 2 * n * stratum.b + 1]
    return found / found.sum()


def _approximate_p(each: Sequence[float], strata: Strata) -> float:
    variance = 0.0
    for a, b in strata:
        m, n = len(a), len(b)
        counts = np.unique([*a, *b], return_counts=True)[1].astype(float)
        ties = float((counts**3 - counts).sum()) / ((m + n) * (m + n - 1))
        variance += (m + n + 1 - ties) / (12 * m * n)
    distance = abs(math.fsum(each) - len(each) / 2)
    return float(2 * stats.norm.sf(distance / math.sqrt(variance))) if variance else 1.0
