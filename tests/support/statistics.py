"""Groups of values for the tests of the statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ranger21.report.statistics.pairs import difference
from ranger21.report.statistics.verdicts import Difference

Array = NDArray[np.float64]
Record = Callable[[str, object], None]
QUICK = settings(max_examples=150, deadline=None, derandomize=True)
FINITE = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float)
VALUES = st.dictionaries(st.integers(0, 6), FINITE) | st.lists(FINITE, min_size=3, max_size=5).map(lambda x: seeds(x))


def seeds(values: Array | list[float], first: int = 0) -> dict[int, float]:
    """Return a group: its values, keyed by the seeds first, first + 1, …"""
    return dict(enumerate(map(float, values), first))


def compare(
    a: dict[int, float], b: dict[int, float], higher_is_better: bool = True, level: float = 0.95, **options: float
) -> Difference:
    """Return the `difference` of two groups, and assert that there is one."""
    found = difference(a, b, higher_is_better, level, **options)
    assert found is not None
    return found


def ends(found: Difference) -> tuple[float, float]:
    """Return the ends of the interval, and assert that it has both."""
    assert found.low is not None and found.high is not None
    return found.low, found.high
