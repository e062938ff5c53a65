"""The statistics of the comparison, against scipy's tests and results computed by hand."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.statistics import QUICK, VALUES, compare, ends, seeds

from ranger21.report.statistics.pairs import all_pairs, by_seed, difference, estimate, holm
from ranger21.report.statistics.verdicts import Difference

GROUPS = st.dictionaries(st.sampled_from("abcd"), VALUES)


# Against scipy, and by hand


@pytest.mark.parametrize("n", [3, 5, 10])
def test_same_seeds_agree_with_scipys_paired_test(n: int) -> None:
    a, b = np.random.default_rng(n).normal([[1.0], [0.5]], 1.0, (2, n))
    found, expected = compare(seeds(a), seeds(b), level=0.9), stats.ttest_rel(a, b)
    assert found.paired and (found.n_a, found.n_b, found.left_out) == (n, n, 0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert ends(found) == pytest.approx(tuple(expected.confidence_interval(0.9)), rel=1e-12)


@pytest.mark.parametrize(("n_a", "n_b"), [(2, 2), (2, 5), (3, 3), (5, 3), (10, 4)])
def test_different_seeds_agree_with_scipys_welch_test(n_a: int, n_b: int) -> None:
    random = np.random.default_rng(n_a)
    a, b = random.normal(1.0, 0.2, n_a), random.normal(0.5, 2.0, n_b)
    found, expected = compare(seeds(a), seeds(b, first=50)), stats.ttest_ind(a, b, equal_var=False)
    assert not found.paired and (found.n_a, found.n_b, found.left_out) == (n_a, n_b, 0)
    assert found.mean == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert ends(found) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-12)


def test_an_estimate_by_hand() -> None:
    found = estimate([70.0, 71.0, 72.0, 73.0, 74.0])
    assert found is not None
    assert (found.mean, found.sd, found.n) == (72.0, pytest.approx(math.sqrt(2.5)), 5)
    half = 2.776445 * math.sqrt(2.5 / 5)  # the 97.5 % quantile of the t distribution with 4 degrees of freedom
    assert (found.low, found.high) == (pytest.approx(72 - half, rel=1e-6), pytest.approx(72 + half, rel=1e-6))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # 0.04 as 2 × 0.03
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([]) == []


def test_every_pair_is_corrected_for_all_pairs() -> None:
    random = np.random.default_rng(8)
    groups = {name: seeds(random.normal(mean, 0.5, 4)) for name, mean in zip("abcd", (1.0, 0.0, 2.6, 0.1), strict=True)}
    pairs = all_pairs(groups)
    assert [(a, b) for a, b, _ in pairs] == list(itertools.combinations("abcd", 2))
    p = [compare(groups[a], groups[b]).p or 0.0 for a, b, _ in pairs]
    assert [pair.difference.p for pair in pairs] == p
    assert [pair.difference.p_adjusted for pair in pairs] == holm(p)
    assert len({pair.difference.verdict for pair in pairs}) > 1
    for a, b, found in pairs:
        assert found.family == 6
        assert (found.verdict != "cannot tell") == (found.p_adjusted is not None and found.p_adjusted < 0.05)
        alone = compare(groups[a], groups[b])
        bonferroni = compare(groups[a], groups[b], level=1 - 0.05 / 6)
        assert ends(found) == ends(alone)
        assert (found.low_adjusted, found.high_adjusted) == pytest.approx(ends(bonferroni), rel=1e-9)


# Which test is used, and when none is


@pytest.mark.parametrize(
    ("a", "b", "paired", "n_a", "n_b", "left_out"),
    [
        (range(4), range(3), True, 3, 3, 1),
        (range(5), range(1, 6), True, 4, 4, 2),
        (range(10), range(7), True, 7, 7, 3),
        (range(4), range(1, 5), False, 4, 4, 0),  # 3 match, but 2 would be left out
        (range(5), range(3), False, 5, 3, 0),
        (range(2), range(2), False, 2, 2, 0),
        (range(5), range(100, 105), False, 5, 5, 0),
    ],
)
def test_the_paired_test_is_used_if_most_seeds_match(
    a: range, b: range, paired: bool, n_a: int, n_b: int, left_out: int
) -> None:
    random = np.random.default_rng(0)
    one, two = ({seed: float(random.normal()) for seed in group} for group in (a, b))
    found = compare(one, two)
    assert (found.paired, found.n_a, found.n_b, found.left_out) == (paired, n_a, n_b, left_out)
    used = set(one) & set(two) if paired else None
    means = [np.mean([x for seed, x in group.items() if used is None or seed in used]) for group in (one, two)]
    assert found.mean == pytest.approx(means[0] - means[1], rel=1e-12)


@pytest.mark.parametrize(("n_a", "n_b"), [(1, 1), (1, 5), (2, 2), (2, 5), (2, 10)])
@pytest.mark.parametrize("higher", [True, False])
def test_too_few_seeds_never_get_a_verdict(n_a: int, n_b: int, higher: bool) -> None:
    a, b = seeds([1e6 + i / 1e3 for i in range(n_a)]), seeds([i / 1e3 for i in range(n_b)])
    equal = dict.fromkeys(a, 5.0), dict.fromkeys(b, 1.0)
    for one, two in ((a, b), (b, a), equal):
        for found in (compare(one, two, higher), all_pairs({"a": one, "b": two}, higher)[0].difference):
            assert found.verdict == "cannot tell"
            assert found.p_adjusted is found.low_adjusted is found.high_adjusted is None
            assert (found.low is None) == (found.p is None) == (min(n_a, n_b) < 2 or one is equal[0])


def test_groups_with_too_few_seeds_do_not_count_in_the_correction() -> None:
    random = np.random.default_rng(3)
    groups = {"a": seeds(random.normal(3, 1, 5)), "b": seeds(random.normal(0, 1, 5))}
    pairs = all_pairs({**groups, "few": seeds([1.0, 2.0]), "none": {}})
    assert [(a, b) for a, b, _ in pairs] == [("a", "b"), ("a", "few"), ("b", "few")]
    assert {pair.difference.family for pair in pairs} == {1}
    assert pairs[0] == all_pairs(groups)[0]


def test_estimates_of_few_or_no_values() -> None:
    assert estimate([]) is None
    assert difference({}, {0: 1.0}) is None and difference({0: 1.0}, {}) is None
    assert all_pairs({}) == all_pairs({"a": {0: 1.0}}) == []
    one = estimate([3.0])
    assert one is not None and (one.mean, one.sd, one.low, one.high, one.n) == (3.0, None, None, None, 1)
    two = estimate([3.0, 5.0])
    assert two is not None and two.low == pytest.approx(4.0 - 12.7062, rel=1e-5)


@pytest.mark.parametrize("first", [0, 10])
@pytest.mark.parametrize("n", [3, 7])
@pytest.mark.parametrize("value", [0.003, 0.1, 0.235])  # sum / n is not always the value
def test_groups_without_any_spread_get_no_verdict(first: int, n: int, value: float) -> None:
    flat, other = seeds([value] * n), seeds([2 * value] * n, first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same, apart, level = compare(flat, seeds([value] * n, first)), compare(other, flat), estimate(flat.values())
    assert (same.mean, apart.mean) == (0.0, value)
    for found in (same, apart):
        assert found.low is found.high is found.p is found.p_adjusted is None
        assert (found.verdict, found.family) == ("cannot tell", 0)
        sentence = (
            f"the difference is {found.mean:.3f} for every seed, and without any spread its uncertainty is unknown."
        )
        assert sentence in found.sentence("A", "B", digits=3)
    assert level is not None and (level.mean, level.sd, level.low, level.high) == (value, 0.0, None, None)


def test_if_one_group_has_no_spread_the_other_is_tested_against_its_value() -> None:
    found = compare(seeds([1.0, 1.0, 1.0]), seeds([2.0, 3.0, 5.0], first=10))
    assert found.p == pytest.approx(stats.ttest_1samp([2.0, 3.0, 5.0], 1.0).pvalue, rel=1e-12)


def test_a_seed_that_occurs_twice_counts_once() -> None:
    assert by_seed([(0, 1.0), (1, 5.0), (0, 2.0)]) == {0: 1.5, 1: 5.0}
    assert by_seed([(0, 1.7e308), (0, 1.7e308)]) == {0: 1.7e308}
    assert by_seed([]) == {}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    good, broken = seeds([1.0, 2.0, 3.0]), seeds([1.0, bad, 3.0])
    calls: list[tuple[Callable, object]] = [(estimate, [bad]), (estimate, [1.0, bad]), (by_seed, [(0, bad)])]
    for call, argument in [*calls, (all_pairs, {"a": broken, "b": good}), (all_pairs, {"a": good, "b": broken})]:
        with pytest.raises(ValueError, match="finite"):
            call(argument)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.1])
def test_the_confidence_must_be_between_0_and_1(level: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        estimate([1.0, 2.0], level)
    with pytest.raises(ValueError, match="confidence"):
        difference({0: 1.0, 1: 2.0}, {0: 3.0, 1: 5.0}, confidence=level)


# Any values


@QUICK
@given(a=VALUES.filter(bool), b=VALUES.filter(bool))
def test_swapping_the_groups_negates_the_difference(a: dict[int, float], b: dict[int, float]) -> None:
    one, two = compare(a, b), compare(b, a)
    assert one.mean == -two.mean
    assert (one.p, one.p_adjusted, one.paired, one.left_out) == (two.p, two.p_adjusted, two.paired, two.left_out)
    assert (one.n_a, one.n_b) == (two.n_b, two.n_a)
    if one.low is not None:
        assert ends(one) == tuple(-end for end in reversed(ends(two)))
    assert {"better": "worse", "worse": "better"}.get(one.verdict, one.verdict) == two.verdict
    assert compare(a, b, higher_is_better=False).verdict == two.verdict


@QUICK
@given(groups=GROUPS, random=st.randoms(use_true_random=False))
def test_the_order_of_groups_and_seeds_does_not_matter(groups: dict[str, dict[int, float]], random: Random) -> None:
    def shuffled(mapping: dict) -> dict:
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    other = shuffled({label: shuffled(group) for label, group in groups.items()})
    mixed = {frozenset((a, b)): (a, found) for a, b, found in all_pairs(other)}
    pairs = all_pairs(groups)
    assert len(mixed) == len(pairs)
    for a, b, found in pairs:
        first, expected = mixed[frozenset((a, b))]
        assert expected.p_adjusted == found.p_adjusted
        assert expected.mean == (found.mean if first == a else -found.mean)
        assert first != a or expected == found


@QUICK
@given(groups=GROUPS, higher=st.booleans())
def test_intervals_and_p_values_are_consistent_for_any_values(
    groups: dict[str, dict[int, float]], higher: bool
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = all_pairs(groups, higher)
        for found in (estimate(group.values()) for group in groups.values() if group):
            assert found is not None and math.isfinite(found.mean)
            assert (found.low is None) == (not found.sd)
            if found.sd:
                assert found.low <= found.mean <= found.high
    filled = sum(bool(group) for group in groups.values())
    assert len(pairs) == filled * (filled - 1) // 2
    for pair in pairs:
        assert_consistent(pair.difference)


def assert_consistent(found: Difference) -> None:
    """Assert that intervals are nested around the mean, p is at most the adjusted p, and the verdict follows."""
    assert not math.isnan(found.mean)
    if found.low is not None:
        assert found.low <= found.mean <= found.high
        assert 0 <= found.p <= 1
    if found.p_adjusted is not None:
        assert found.p <= found.p_adjusted <= 1
        assert found.low_adjusted <= found.low
        assert found.high_adjusted >= found.high
        assert found.verdict != "cannot tell" or found.low_adjusted <= 0 <= found.high_adjusted
    sentence = found.sentence("a", "b")
    assert "nan" not in sentence and "None" not in sentence and "-0.00" not in sentence


# Sentences


def difference_of(a: list[float], b: list[float], first: int = 0, higher: bool = True) -> Difference:
    """Return the difference of two groups of values, whose seeds start at 0 and at `first`."""
    return compare(seeds(a), seeds(b, first), higher)


def test_sentence_of_a_clear_difference() -> None:
    a, b = [73.6, 73.7, 73.5, 73.8, 73.4], [72.4, 72.6, 72.3, 72.5, 72.2]
    text = difference_of(a, b).sentence("Ranger21", "AdamW", "points")
    details = "95 % interval 1.11 to 1.29, p < 0.0001, n = 5 and 5, paired by seed"
    assert text == f"Ranger21 is better than AdamW by 1.20 points ({details})."
    text = difference_of(b, a).sentence("AdamW", "Ranger21", "points", 1)
    assert text.startswith("AdamW is worse than Ranger21 by 1.2 points (95 % interval 1.1 to 1.3, ")
    text = difference_of(b, a, higher=False).sentence("AdamW", "Ranger21")
    assert text.startswith("AdamW is better than Ranger21 by 1.20 (95 % interval 1.11 to 1.29, ")
    text = difference_of(a, b, first=1).sentence("A", "B", "points")
    assert text.endswith("n = 4 and 4, paired by seed, 2 unpaired left out).")
    text = difference_of(a, b, first=100).sentence("A", "B", "points")
    assert text == "A is better than B by 1.20 points (95 % interval 0.97 to 1.43, p < 0.0001, n = 5 and 5)."


def test_sentence_without_a_verdict() -> None:
    text = difference_of([1.0, 2.0, 3.0], [1.4, 1.3, 3.0]).sentence("Ranger21", "AdamW", "points")
    begin = "Cannot tell whether Ranger21 is better than AdamW with n = 3 and 3: "
    assert text == f"{begin}the difference is 0.10 points (95 % interval -1.28 to 1.48, p = 0.79, paired by seed)."
    text = difference_of([1.0, 2.0, 3.0], [1.1, 1.9, 3.001]).sentence("A", "B")
    assert "the difference is 0.00 (95 % interval -0.25 to 0.25, " in text  # the value is -0.0003


def test_sentence_with_too_few_seeds() -> None:
    text = difference_of([9.0, 9.1], [1.0, 1.1, 1.2, 1.3, 1.4]).sentence("Ranger21", "AdamW", "points")
    doubt = "Too few seeds to tell whether Ranger21 is better than AdamW (n = 2 and 5; at least 3 needed)"
    assert text == f"{doubt}: the difference so far is 7.85 points."
    assert "(n = 1 and 1; at" in difference_of([9.0], [1.0]).sentence("A", "B")


def test_sentence_within_a_family() -> None:
    random = np.random.default_rng(2)
    pairs = all_pairs({str(i): seeds(random.normal(mean, 0.3, 5)) for i, mean in enumerate([5.0, 0.0, 0.3, 0.6, 0.5])})
    texts = [found.sentence(a, b) for a, b, found in pairs]
    assert all(" after Holm's correction over 10 pairs, " in text for text in texts)
    torn = [pair.difference.verdict == "cannot tell" and (pair.difference.p or 0.0) < 0.05 for pair in pairs]
    assert any(torn)  # its own interval excludes 0, so the sentence gives both intervals
    for (_, _, found), text, both in zip(pairs, texts, torn, strict=True):
        wide = f"{found.low_adjusted:.2f} to {found.high_adjusted:.2f}"
        assert (f" for this pair alone, {wide} for all 10 pairs together, p = " in text) is both


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.61, "p = 0.61"), (0.0312, "p = 0.031"), (0.0003, "p = 0.0003"), (0.00009, "p < 0.0001"), (0.0, "p < 0.0001")],
)
def test_p_is_rounded_in_the_sentence(p: float, shown: str) -> None:
    found = Difference(1.0, 0.5, 1.5, p, p, 0.5, 1.5, 5, 5, True, 0, 1, 0.9, "better")
    details = f"90 % interval 0.50 to 1.50, {shown}, n = 5 and 5, paired by seed"
    assert found.sentence("A", "B") == f"A is better than B by 1.00 ({details})."
