"""The interquartile mean of scores over several workloads with equal weights (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from ranger21.report.runs.metrics import Array
from ranger21.report.statistics.pairs import Estimate

DRAWS = 2000  # bootstrap samples, from a fixed seed
CONFIDENCE = 0.95
LOW, HIGH = 0.25, 0.75

Strata = Sequence[Sequence[float]]  # the scores of each workload's runs


def interquartile_mean(strata: Strata) -> float:
    """Return the mean of the middle half of all scores, in which each workload has the same total weight.

    A score that lies across a quartile counts in part.
    """
    weights = np.concatenate([np.full(len(scores), 1 / len(scores)) for scores in strata]) / len(strata)
    return float(_middle(np.concatenate([np.asarray(scores, float) for scores in strata])[None], weights)[0])


def estimate_interquartile(strata: Strata) -> Estimate | None:
    """Return the interquartile mean with its interval; None unless every workload has scores.

    The `sd` of the result is the standard error, from a stratified bootstrap that draws one run fewer per workload than
    there are; otherwise it would be too small (Rao and Wu, 1988). The interval is Student's with half of the runs'
    degrees of freedom, because half of the runs count. There is no interval if a workload has fewer than two runs.
    """
    n = sum(map(len, strata))
    if not strata or not all(strata):
        return None
    mean = interquartile_mean(strata)
    if min(map(len, strata)) < 2:
        return Estimate(mean, None, None, None, n)
    random = np.random.default_rng(2021)
    drawn, weights = [], []
    for scores in strata:
        fewer = len(scores) - 1
        drawn.append(np.asarray(scores, float)[random.integers(0, len(scores), (DRAWS, fewer))])
        weights.append(np.full(fewer, 1 / fewer / len(strata)))
    error = float(_middle(np.concatenate(drawn, axis=1), np.concatenate(weights)).std(ddof=1))
    half = error * -float(stdtrit((n - len(strata)) / 2, (1 - CONFIDENCE) / 2))
    return Estimate(mean, error, mean - half, mean + half, n)


def _middle(values: Array, weights: Array) -> Array:
    """Return the mean between the quartiles of each row. The weights of the columns sum to 1."""
    order = np.argsort(values, axis=1, kind="stable")
    above = np.cumsum(weights[order], axis=1)
    below = above - weights[order]
    counted = np.clip(np.minimum(above, HIGH) - np.maximum(below, LOW), 0.0, None)
    found: Array = (np.take_along_axis(values, order, 1) * counted).sum(axis=1) / counted.sum(axis=1)
    return found
