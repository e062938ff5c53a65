"""Equivalence: compared with scipy's one-sided tests; the margin from the runs' protocols; the wording."""

from __future__ import annotations

import csv
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from scipy import stats
from support.run_directories import MakeRun
from support.statistics import QUICK, VALUES, compare, seeds

from ranger21.report.page.sections import comparison_tab
from ranger21.report.runs.finding import find_runs
from ranger21.report.statistics.equivalence import Equivalence, margin_of
from ranger21.report.statistics.pairs import all_pairs, difference
from ranger21.report.statistics.ttests import holm
from ranger21.report.tables import table
from ranger21.report.write import examine

MARGIN = 0.5


def judged(a: dict[int, float], b: dict[int, float], margin: float = MARGIN) -> tuple[str, Equivalence]:
    """Return the verdict on a, and the result of the one-sided tests."""
    found = difference(a, b, margin=margin)
    assert found is not None and found.equivalence is not None
    return found.verdict, found.equivalence


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_p_is_the_larger_one_of_two_one_sided_tests(n: int, paired: bool) -> None:
    random = np.random.default_rng(n)
    a, b = random.normal(0.2, 0.3, n), random.normal(0.0, 0.2, n)
    verdict, found = judged(seeds(a), seeds(b, first=0 if paired else 100))
    test = stats.ttest_rel if paired else partial(stats.ttest_ind, equal_var=False)
    theirs = max(test(a + MARGIN, b, alternative="greater").pvalue, test(a - MARGIN, b, alternative="less").pvalue)
    assert found.p == found.p_adjusted == pytest.approx(theirs, rel=1e-10)
    interval = test(a, b, alternative="two-sided").confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert found.within is bool(theirs < 0.05) is bool(interval.low > -MARGIN and interval.high < MARGIN)
    assert (verdict == "equivalent") is (found.within and compare(seeds(a), seeds(b)).verdict == "cannot tell")


def test_p_values_are_corrected_for_all_pairs() -> None:
    random = np.random.default_rng(4)
    means = {"a": 0.0, "b": 0.05, "c": 0.2, "d": 0.45}
    groups = {name: seeds(random.normal(mean, 0.15, 4)) for name, mean in means.items()}
    pairs = all_pairs({**groups, "few": seeds([0.0, 0.0])}, margin=MARGIN)
    told = [found.equivalence for a, b, found in pairs if "few" not in (a, b)]
    alone = [judged(groups[a], groups[b])[1].p for a, b, _ in pairs if "few" not in (a, b)]
    assert [found.p for found in told if found] == alone and len(alone) == 6
    assert [found.p_adjusted for found in told if found] == holm(alone)
    assert {found.within for found in told if found} == {True, False}
    assert any(p < 0.05 <= adjusted for p, adjusted in zip(alone, holm(alone), strict=True))
    for a, b, found in pairs:
        assert (found.equivalence is None) is ("few" in (a, b))
        assert (found.verdict == "equivalent") <= bool(found.equivalence and found.equivalence.within)


def test_no_equivalence_without_a_margin_or_with_too_few_seeds() -> None:
    same, other = seeds([70.0, 70.1, 70.2]), seeds([70.1, 70.0, 70.2])
    assert judged(same, other)[0] == "equivalent"
    for a, b, margin in ((same, other, None), (seeds([70.0, 70.1]), other, MARGIN), (seeds([70.0]), other, MARGIN)):
        found = difference(a, b, margin=margin)
        assert found is not None and found.equivalence is None and found.verdict == "cannot tell"
        assert "equivalent" not in found.sentence("A", "B")


@pytest.mark.parametrize("margin", [0.0, -0.5, math.inf, math.nan])
def test_a_margin_must_be_positive_and_finite(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        difference(seeds([1.0, 2.0, 3.0]), seeds([1.0, 2.0, 4.0]), margin=margin)


def test_sentences_state_the_verdict_the_interval_and_p() -> None:
    a, b = [70.0, 70.2, 70.1, 70.3, 70.2], [70.1, 70.1, 70.0, 70.3, 70.3]
    found = compare(seeds(a), seeds(b), margin=MARGIN)
    details = "90 % interval -0.10 to 0.10, p = 0.0002, n = 5 and 5, paired by seed"
    assert found.sentence("A", "B", "points") == (
        f"A and B are equivalent within 0.5 points: the difference is 0.00 points ({details})."
    )
    found = compare(seeds(a), seeds([x - 0.2 + i / 100 for i, x in enumerate(a)]), margin=MARGIN)
    assert found.verdict == "better"
    text = found.sentence("A", "B", "points")
    assert text.startswith("A is better than B by 0.18 points, but by less than the margin of 0.5 points (95 % int")
    assert ", p < 0.0001, and p < 0.0001 for less than the margin, n = 5 and 5, paired by seed)." in text
    text = compare(seeds(b), seeds([x + 2 for x in a]), margin=MARGIN).sentence("B", "A", "points")
    assert text.startswith("B is worse than A by 2.00 points (") and "margin" not in text


@QUICK
@given(a=VALUES.filter(bool), b=VALUES.filter(bool))
def test_equivalence_is_symmetric_and_implies_a_difference_below_the_margin(
    a: dict[int, float], b: dict[int, float]
) -> None:
    one, two = difference(a, b, margin=MARGIN), difference(b, a, margin=MARGIN)
    assert one is not None and two is not None
    assert (one.verdict == "equivalent") is (two.verdict == "equivalent")
    if one.equivalence and two.equivalence:
        assert one.equivalence.p == two.equivalence.p
        assert (one.equivalence.low, one.equivalence.high) == (-two.equivalence.high, -two.equivalence.low)
        assert not one.equivalence.within or abs(one.mean) < MARGIN
    assert one.equivalence is not None or one.verdict != "equivalent"


# Equivalence of runs


def test_only_top1_is_tested_for_equivalence_with_the_protocols_margin(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, (one, two) in enumerate([(70.0, 70.2), (70.3, 70.2), (70.1, 70.0), (70.2, 70.3)]):
        make_run("ranger21", seed, (60.0, one))
        make_run("adamw", seed, (60.0, two))
    for margin, verdict in ((None, "equivalent"), (0.3, "equivalent"), (0.1, "cannot tell")):
        if margin:
            for config in tmp_path.rglob("config.yaml"):
                kept = config.read_text().split("\nprotocol:")[0]
                config.write_text(f"{kept}\nprotocol:\n  margin: {margin}\n")
        comparison = examine([str(tmp_path / "outputs")]).comparisons[0]
        table.write_pairs([comparison], tmp_path / "pairs.csv")
        rows = {row["figure"]: row for row in csv.DictReader((tmp_path / "pairs.csv").read_text().splitlines())}
        assert rows["top1"]["verdict_on_a"] == verdict
        assert float(rows["top1"]["margin"]) == (margin or 0.5)
        assert rows["top1"]["within_margin"] == str(verdict == "equivalent")
        assert float(rows["top1"]["p_margin_adjusted"]) == float(rows["top1"]["p_margin"])
        assert (rows["loss"]["margin"], rows["loss"]["within_margin"]) == ("", "")
        said = f"are equivalent within {margin or 0.5:g} points"
        assert (said in table.markdown(comparison)) is (verdict == "equivalent")
        shown = "".join(html for _, html in comparison_tab(comparison).details)
        assert (said in shown) is (verdict == "equivalent")


def test_the_smallest_margin_is_used_and_a_note_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("ranger21", 0, protocol__margin=0.3)
    for seed, nonsense in enumerate([True, "0.1", 0, -1, ".nan", None]):  # values in users' configurations
        make_run("adamw", seed, protocol__margin=nonsense)
    runs = find_runs([str(tmp_path / "outputs")]).runs
    assert margin_of(runs) == 0.3
    assert margin_of(run for run in runs if run.config["optimizer.name"] == "adamw") == margin_of([]) == 0.5
    notes = table.notes(examine([str(tmp_path / "outputs")]).comparisons[0].rows)
    said = "The runs' protocols set different equivalence margins (0.3, 0.5 points): the smallest is used."
    assert [note for note in notes if "margins" in note] == [said]
