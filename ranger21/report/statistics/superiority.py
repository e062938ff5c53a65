"""The probability that a run of one optimizer beats a run of another, over several workloads, with interval and test.

It is the probability of improvement of Agarwal et al. (2021), P(A > B) + P(A = B) / 2, with equal weights for the
workloads: Mann and Whitney's U, scaled to 0 … 1. It only uses ranks within a workload, so no scale has to be chosen.
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
LARGEST_STRATUM = 80  # with more runs of both optimizers on one workload, p is approximate
LARGEST_GRID = 500_000  # with more possible values of the mean, p is approximate

Values = Sequence[float]
Strata = Sequence[tuple[Values, Values]]  # the values of A and of B on each workload; higher is better, -inf is worst


@dataclass(frozen=True)
class Superiority:
    """The probability that a run of A is better than a run of B.

    Attributes:
        probability: the mean over the workloads.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        p: the two-sided p-value, under the hypothesis that there is no difference on any workload.
        each: the probability on each workload.
    """

    probability: float
    low: float
    high: float
    p: float
    each: tuple[float, ...]


def superiority(strata: Strata) -> Superiority:
    """Estimate and test the probability over at least one workload, each with values of both optimizers.

    `p` is that of the permutation test that exchanges runs within each workload. It is exact, also with ties, up to
    LARGEST_STRATUM and LARGEST_GRID, and from the normal approximation beyond. The interval is Newcombe's (2006, method
    5), applied to the mean.
    """
    each = tuple(_share(np.array(a), np.array(b)) for a, b in strata)
    probability = math.fsum(each) / len(each)
    return Superiority(probability, *_interval(probability, strata), _p(each, strata), each)


def _share(a: Array, b: Array) -> float:
    return float((a[:, None] > b).mean() + (a[:, None] == b).mean() / 2)


def _interval(probability: float, strata: Strata) -> tuple[float, float]:
    """Return the values that are z standard errors away, with the standard error computed at those values."""
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
    steps = [2 * len(a) * len(b) for a, b in strata]  # possible steps of the share on a workload; ties count half
    whole = math.lcm(*steps)
    if whole * len(steps) > LARGEST_GRID or max(len(a) + len(b) for a, b in strata) > LARGEST_STRATUM:
        return _approximate_p(each, strata)
    sums, chances = _permutation_distribution(tuple(sorted(_Stratum.of(a, b) for a, b in strata)), whole)
    observed = sum(round(share * step) * (whole // step) for share, step in zip(each, steps, strict=True))
    middle = whole * len(steps)  # twice the expected sum
    return min(1.0, float(chances[np.abs(2 * sums - middle) >= abs(2 * observed - middle)].sum()))


class _Stratum(NamedTuple):
    """The properties of a workload that determine its permutation distribution: the numbers of values, and the ties."""

    a: int
    b: int
    ties: tuple[int, ...]  # the multiplicity of each distinct value, ascending by value

    @classmethod
    def of(cls, a: Values, b: Values) -> _Stratum:
        return cls(len(a), len(b), tuple(np.unique([*a, *b], return_counts=True)[1].tolist()))


@lru_cache(maxsize=64)
def _permutation_distribution(strata: tuple[_Stratum, ...], whole: int) -> tuple[NDArray[Any], Array]:
    """Return the permutation distribution of the sum of shares: possible values, times `whole`, and probabilities."""
    sums: NDArray[Any] = np.zeros(1, np.int64)
    chances: Array = np.ones(1)
    for stratum in strata:
        chance = _distribution_on_workload(stratum)
        places = np.arange(len(chance)) * (whole // (len(chance) - 1))
        found: NDArray[Any] = np.bincount(
            np.add.outer(sums, places).ravel(), np.multiply.outer(chances, chance).ravel()
        )
        sums = np.flatnonzero(found)
        chances = found[sums]
    return sums, chances


def _distribution_on_workload(stratum: _Stratum) -> Array:
    """Return the probability of each value of 2 U, from 0 to 2 a b, on one workload."""
    n, last = stratum.a, 0
    ways = np.zeros((n + 1, (n + stratum.b) * (n + stratum.b + 1) + 1))
    ways[0, 0] = 1.0
    for count in stratum.ties:
        rank = 2 * last + count + 1  # twice the mean rank of the tied values
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
