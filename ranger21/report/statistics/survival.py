"""How many of several runs arrive somewhere, and when, where some never do and others are still on their way.

By Kaplan and Meier's estimate (1958). A run that ended without arriving stays among those that have not arrived for all
time: what is estimated is the share of *all* runs, so that no failure makes the others look faster.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from ranger21.report.runs.metrics import Array

CONFIDENCE = 0.95
ENOUGH_RUNS = 5  # for an interval of the median: four are all on one side of it in an eighth of the cases


@dataclass(frozen=True)
class Median:
    """The time at which half of all runs have arrived, and its interval: infinite for never."""

    value: float | None  # None where it depends on runs that are still on their way
    low: float | None  # None with fewer than ENOUGH_RUNS runs
    high: float | None


@dataclass(frozen=True)
class Arrivals:
    """Of several runs: when some arrived, how far others have come that still may, and how many never did."""

    arrived: tuple[float, ...]
    waiting: tuple[float, ...] = ()
    never: int = 0

    @property
    def n(self) -> int:
        """How many runs there are."""
        return len(self.arrived) + len(self.waiting) + self.never

    @cached_property
    def curve(self) -> tuple[Array, Array, Array, Array]:
        """Times in rising order, and the share of all runs that has arrived from each of them on, with its interval.

        The interval is of each point alone: Greenwood's, on the scale log(-log). It is NaN at shares of 0 and 1.
        """
        if not self.n:
            return (np.empty(0),) * 4
        horizon = max((*self.arrived, *self.waiting), default=0.0)
        right = [*self.waiting, *[horizon] * self.never]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, where the interval is not defined
            absent = stats.ecdf(stats.CensoredData(uncensored=self.arrived, right=right)).sf
            interval = absent.confidence_interval(CONFIDENCE, method="log-log")
        low, high = 1 - interval.high.probabilities, 1 - interval.low.probabilities
        return absent.quantiles, 1 - absent.probabilities, low, high

    def median(self) -> Median:
        """Of the times of all runs.

        The interval holds the times at which the share's own interval holds a half (Brookmeyer and Crowley, 1982). Its
        upper end is infinite where these runs set no bound to it: their number is small, or many never arrive.
        """
        times, share, low, high = self.curve
        value: float | None = _half(times, share)
        if value == math.inf and 2 * (len(self.arrived) + len(self.waiting)) >= max(1, self.n) and self.waiting:
            value = None
        if self.n < ENOUGH_RUNS:
            return Median(value, None, None)
        return Median(value, _half(times, np.where(np.isnan(high), share, high)), _half(times, low))


def _half(times: Array, share: Array) -> float:
    """The first time with at least half; infinite without one. NaN is not half."""
    found = np.flatnonzero(share >= 0.5 - 1e-9)
    return float(times[found[0]]) if len(found) else math.inf
