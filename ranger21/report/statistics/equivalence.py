"""Whether two groups differ by less than a margin that was fixed beforehand: "as good" is a claim, and has a test.

Two one-sided t-tests (Schuirmann 1987): one that the difference is above -margin, one that it is below +margin. Both
must succeed, so the larger p counts. p below 5 % means that the 90 % interval of the difference lies within the margin.

Holm's correction is over all pairs of the family, as for the differences. Of one pair only one of the two errors is
possible: "better" is false of equal groups, "equivalent" of groups that are the margin apart, or more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ranger21.report.runs.run import Run, finite
from ranger21.report.statistics.ranks import RankTest
from ranger21.report.statistics.ttests import TTest, holm

MARGIN = 0.5  # points of top-1, where the runs' configuration has no protocol.margin


@dataclass(frozen=True)
class Equivalence:
    """What two one-sided tests say of a difference; `margin` and the interval `low, high` are in the values' unit."""

    margin: float
    p: float
    p_adjusted: float  # Holm's, over the same family as the difference's
    low: float  # of the interval with twice the error, 90 %, which lies within the margin where p is below 5 %
    high: float
    within: bool  # shown: the difference is smaller than the margin


def equivalences(tests: Sequence[TTest | RankTest], margin: float, confidence: float) -> list[Equivalence]:
    """What tests that have a p say, each corrected for there being the others.

    Raises:
        ValueError: the margin is not above 0, or an infinite one, or the confidence is not above a half.
    """
    if not finite(margin) or margin <= 0:
        raise ValueError(f"A margin of {margin} is not above 0.")
    each = [test.p_within(margin) or 0.0 for test in tests]
    found = []
    for test, p, adjusted in zip(tests, each, holm(each), strict=True):
        low, high = test.interval(1 - 2 * (1 - confidence))
        found.append(Equivalence(margin, p, adjusted, low or 0.0, high or 0.0, adjusted < 1 - confidence))
    return found


def margins(runs: Iterable[Run]) -> list[float]:
    """The margins of the runs' protocols, in points of top-1, the smallest first; MARGIN for a run without one."""
    told = [run.config.get("protocol.margin") for run in runs]
    return sorted({float(margin) if finite(margin) and margin > 0 else MARGIN for margin in told})


def margin_of(runs: Iterable[Run]) -> float:
    """The margin of a comparison: the smallest of its runs'."""
    return min(margins(runs), default=MARGIN)
