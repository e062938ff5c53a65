"""Test whether two groups differ by less than a margin that was fixed beforehand.

Two one-sided t-tests (TOST; Schuirmann 1987) reject a difference below -margin and one above +margin. Both must
succeed, so the larger p counts. p < 5 % means that the 90 % interval of the difference lies within the margin.

Holm's correction covers all pairs of the family, as it does for differences. A pair can suffer only one of the two
errors: "better" is an error for equal groups, "equivalent" for groups that differ by the margin or more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ranger21.report.runs.run import RecordedRun, finite
from ranger21.report.statistics.ranks import RankTest
from ranger21.report.statistics.ttests import TTest, holm

MARGIN = 0.5  # points of top-1, for runs whose configuration has no protocol.margin


@dataclass(frozen=True)
class Equivalence:
    """The result of two one-sided tests of a difference.

    Attributes:
        margin: the margin, in the unit of the values.
        p_adjusted: p after Holm's correction, over the same family as that of the difference.
        low: lower end of the 90 % interval, which lies within the margin exactly if p is below 5 %.
        high: upper end of that interval.
        within: whether the difference is shown to be smaller than the margin.
    """

    margin: float
    p: float
    p_adjusted: float
    low: float
    high: float
    within: bool


def equivalences(tests: Sequence[TTest | RankTest], margin: float, confidence: float) -> list[Equivalence]:
    """Test each difference for equivalence, with Holm's correction over all of them.

    Args:
        tests: the tests of the differences, all of which have a p-value.

    Raises:
        ValueError: the margin is not finite and above 0, or the confidence is not above a half.
    """
    if not finite(margin) or margin <= 0:
        raise ValueError(f"A margin of {margin} is not above 0.")
    each = [test.p_within(margin) or 0.0 for test in tests]
    found = []
    for test, p, adjusted in zip(tests, each, holm(each), strict=True):
        low, high = test.interval(1 - 2 * (1 - confidence))
        found.append(Equivalence(margin, p, adjusted, low or 0.0, high or 0.0, adjusted < 1 - confidence))
    return found


def margins(runs: Iterable[RecordedRun]) -> list[float]:
    """Return the margins in the runs' protocols, in points of top-1, ascending; MARGIN for runs without one."""
    told = [run.config.get("protocol.margin") for run in runs]
    return sorted({float(margin) if finite(margin) and margin > 0 else MARGIN for margin in told})


def margin_of(runs: Iterable[RecordedRun]) -> float:
    """Return the margin of a comparison, the smallest of its runs' margins."""
    return min(margins(runs), default=MARGIN)
