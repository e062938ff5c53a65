"""Time to event for several runs, some of which never arrive while others are still running.

Kaplan and Meier's estimate (1958). A run that ended without arriving counts as not arrived forever: the estimate is the
share of *all* runs, so failures never make the other runs look faster.
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
ENOUGH_RUNS = 5  # for an interval of the median; four runs are all on one side of it with probability 1/8


@dataclass(frozen=True)
class Median:
    """The time at which half of all runs have arrived, and its interval; infinite stands for never.

    Attributes:
        value: the median; None if it depends on runs that are still running.
        low: lower end of its interval; None if there are fewer than ENOUGH_RUNS runs.
        high: upper end of its interval; None if there are fewer than ENOUGH_RUNS runs.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Arrivals:
    """Times to an event over several runs.

    Attributes:
        arrived: the arrival times.
        waiting: how far the runs that may still arrive have come.
        never: the number of runs that ended without arriving.
    """

    arrived: tuple[float, ...]
    waiting: tuple[float, ...] = ()
    never: int = 0

    @property
    def n(self) -> int:
        """The number of runs."""
        return len(self.arrived) + len(self.waiting) + self.never

    @cached_property
    def curve(self) -> tuple[Array, Array, Array, Array]:
        """Ascending times, the share of all runs that have arrived by each time, and the ends of its interval.

        The interval is pointwise: Greenwood's, on the log(-log) scale. It is NaN at shares of 0 and 1.
        """
        if not self.n:
            return (np.empty(0),) * 4
        horizon = max((*self.arrived, *self.waiting), default=0.0)
        right = [*self.waiting, *[horizon] * self.never]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns where the interval is undefined
            absent = stats.ecdf(stats.CensoredData(uncensored=self.arrived, right=right)).sf
            interval = absent.confidence_interval(CONFIDENCE, method="log-log")
        low, high = 1 - interval.high.probabilities, 1 - interval.low.probabilities
        return absent.quantiles, 1 - absent.probabilities, low, high

    def median(self) -> Median:
        """Return the median time over all runs.

        Its interval contains the times at which the interval of the share contains one half (Brookmeyer and Crowley,
        1982). The upper end is infinite if the runs give no bound, because they are few or many never arrive.
        """
        times, share, low, high = self.curve
        value: float | None = _half(times, share)
        if value == math.inf and 2 * (len(self.arrived) + len(self.waiting)) >= max(1, self.n) and self.waiting:
            value = None
        if self.n < ENOUGH_RUNS:
            return Median(value, None, None)
        return Median(value, _half(times, np.where(np.isnan(high), share, high)), _half(times, low))


def _half(times: Array, share: Array) -> float:
    """Return the first time with a share of at least one half; infinite if there is none. NaN does not count."""
    found = np.flatnonzero(share >= 0.5 - 1e-9)
    return float(times[found[0]]) if len(found) else math.inf
