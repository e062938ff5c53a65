"""The rank test and the test of shares, compared with scipy and with sums by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ranger21.report.statistics.pairs import all_pairs, difference
from ranger21.report.statistics.proportions import Proportion, contrasts
from ranger21.report.statistics.ranks import MOST_EXACT, Outcomes, rank_test

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
VALUES = st.lists(st.integers(20, 26).map(float) | st.none(), min_size=2, max_size=6)  # None: the run failed


def outcomes(values: list[float | None], first: int = 0) -> Outcomes:
    """Return a group whose failed seeds count as 10."""
    seeds = range(first, first + len(values))
    lost = [seed for seed, value in zip(seeds, values, strict=True) if value is None]
    return Outcomes({s: 10.0 if v is None else v for s, v in zip(seeds, values, strict=True)}, lost)


def shares_by_enumeration(a: list[float], b: list[float]) -> float:
    """Return the share of all splits whose first group has a rank sum of at least that of a."""
    ranks = stats.rankdata([*a, *b])
    sums = [sum(ranks[list(chosen)]) for chosen in itertools.combinations(range(len(ranks)), len(a))]
    return float(np.mean([total >= sum(ranks[: len(a)]) - 1e-9 for total in sums]))


@QUICK
@given(a=VALUES, b=VALUES)
def test_p_is_at_most_twice_the_share_of_splits(a: list[float | None], b: list[float | None]) -> None:
    one, two = ([-1.0 if value is None else value for value in group] for group in (a, b))
    found = rank_test(outcomes(a), outcomes(b))
    tail = shares_by_enumeration(one, two) if found.mean > 0 else shares_by_enumeration(two, one)
    apart = min(one) > max(two) or min(two) > max(one)
    assert found.p is not None
    assert found.p <= min(1.0, 2 * tail) + 1e-9
    assert apart or found.p == pytest.approx(min(1.0, 2 * tail))
    assert (found.n_a, found.n_b, found.failed) == (len(a), len(b), (a.count(None), b.count(None)))


def test_without_ties_p_is_that_of_mann_whitney() -> None:
    a, b = np.random.default_rng(4).normal([[75.3], [75.0]], 0.3, (2, 8))
    found = rank_test(outcomes([*map(float, a)]), outcomes([*map(float, b)]))
    side = "greater" if found.mean > 0 else "less"
    expected = stats.mannwhitneyu(a, b, alternative=side, method="exact").pvalue
    assert found.p == pytest.approx(2 * expected)


def test_many_seeds_use_the_normal_approximation() -> None:
    random, half = np.random.default_rng(6), MOST_EXACT // 2
    values = [*map(float, random.normal(75.0, 0.3, MOST_EXACT + 1))]
    many = rank_test(outcomes([*values[: half + 1], None]), outcomes([*values[half + 1 :], None]))
    few = rank_test(outcomes([*values[: half - 1], None]), outcomes([*values[half - 1 : 2 * half - 2], None]))
    assert many.p is not None and few.p is not None
    one, two = ([*values[: half - 1], -1.0], [*values[half - 1 : 2 * half - 2], -1.0])
    side = "greater" if few.mean > 0 else "less"
    assert few.p == pytest.approx(2 * stats.mannwhitneyu(one, two, alternative=side).pvalue, rel=0.05)


def test_p_of_groups_that_do_not_overlap_equals_a_calculation_by_hand() -> None:
    """With 5 of 5 failed against none, one side has (1/2)^10; with 3, (1/2)^6; with 3 and 10, (3/13)^3 (10/13)^10."""
    good, lost = [75.0, 75.1, 75.2, 75.3, 75.4], [None] * 5
    assert rank_test(outcomes(good), outcomes(lost)).p == pytest.approx(2 / 2**10)
    assert rank_test(outcomes(good[:3]), outcomes(lost[:3])).p == pytest.approx(2 / 2**6)
    ten = rank_test(outcomes(good * 2), outcomes(lost[:3]))
    assert ten.p == pytest.approx(2 * (3 / 13) ** 3 * (10 / 13) ** 10, rel=1e-4)
    fewer = [rank_test(outcomes(good), outcomes([70.0] * (5 - k) + [None] * k)).p for k in range(1, 6)]
    assert fewer == sorted(fewer, reverse=True) and fewer[0] < 2 / math.comb(10, 5)  # type: ignore[type-var]


def test_the_group_with_the_worse_mean_is_never_better() -> None:
    """Nine of its ten seeds beat all others and one failed: it leads by ranks, but not by its mean."""
    ahead, behind = outcomes([75.7 + i / 100 for i in range(9)] + [None]), outcomes([75.0 + i / 100 for i in range(10)])
    for a, b in ((ahead, behind), (behind, ahead)):
        found = difference(a, b)
        assert found is not None and (found.verdict, found.p) == ("cannot tell", 1.0)
        assert found.low is found.high is found.low_adjusted is None and found.test == "ranks"


def test_equal_means_are_no_difference() -> None:
    a, b = outcomes([76.0, 75.0, 74.0, None]), outcomes([75.0, 75.0, 75.0, None])
    assert rank_test(a, b).p == rank_test(b, a).p == 1.0


def test_a_lower_loss_is_better_and_a_failed_run_is_worst() -> None:
    """Failed seeds count as a loss of 2.3, less than a finished seed's, but still rank below it."""
    fair = Outcomes({seed: 2.5 + seed / 100 for seed in range(5)})
    lost = Outcomes(dict.fromkeys(range(5), 2.3), range(5))
    found = difference(fair, lost, higher_is_better=False)
    assert found is not None and found.p == 1.0  # its mean is not better, so there is no verdict
    good = difference(Outcomes({seed: 0.5 + seed / 100 for seed in range(5)}), lost, higher_is_better=False)
    assert good is not None and (good.verdict, good.failed) == ("better", (0, 5))


def test_groups_with_failed_runs_are_never_equivalent() -> None:
    a = Outcomes({seed: 75 + seed / 1000 for seed in range(6)} | {6: 10.0}, [6])
    b = Outcomes({seed: 75 + seed / 1000 for seed in range(6)} | {6: 10.0}, [6])
    (pair,) = all_pairs({"a": a, "b": b}, margin=0.5)
    assert pair.difference.verdict == "cannot tell"
    assert pair.difference.sentence("a", "b", "points") == (
        "Cannot tell whether a is better than b with n = 7 and 7: the difference is 0.00 points, diverged runs "
        "included (rank test, p = 1.00)."
    )


def test_shares_of_failed_runs_are_compared_as_in_scipy() -> None:
    shares = {
        "a": Proportion(0, 5),
        "b": Proportion(5, 5),
        "c": Proportion(0, 5),
        "few": Proportion(1, 2),
        "none": Proportion(0, 0),
    }
    found = {(a, b): contrast for a, b, contrast in contrasts(shares)}
    assert list(found) == [("a", "b"), ("a", "few"), ("b", "c"), ("b", "few"), ("c", "few")]  # with failures
    p = stats.fisher_exact([[0, 5], [5, 0]]).pvalue
    assert (found["a", "b"].p, found["a", "b"].p_adjusted) == (pytest.approx(p), pytest.approx(2 * p))
    assert {contrast.family for contrast in found.values()} == {2}  # pairs with enough seeds in both groups
    assert [found[pair].verdict for pair in (("a", "b"), ("b", "c"))] == ["less often", "more often"]
    assert found["b", "few"].p_adjusted is None and found["b", "few"].verdict == "cannot tell"
    assert found["a", "few"].sentence("A", "F", "diverges") == (
        "Too few seeds to tell whether A diverges more often than F: 0 of 5 seeds against 1 of 2."
    )
