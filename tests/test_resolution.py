"""The resolution of a validation set: the smallest spread that intervals and tests of accuracies may assume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.run_directories import MakeRun
from support.statistics import QUICK, compare, ends, seeds

from ranger21.report.groups.resolution import quantum
from ranger21.report.runs.finding import find_runs
from ranger21.report.statistics.pairs import estimate
from ranger21.report.tables import table
from ranger21.report.write import examine

STEPS = st.lists(st.integers(0, 40), min_size=3, max_size=10)


@pytest.mark.parametrize("images", [30, 10_000, 50_000])
@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("first", [0, 100])
def test_equal_values_have_an_interval_of_at_least_one_step(n: int, images: int, first: int) -> None:
    step = 100 / images
    level = estimate([73.0] * n, quantum=step)
    assert level is not None and level.sd == 0 and level.low is not None and level.high is not None
    assert step < level.high - level.low < 2.5 * step
    same = compare(seeds([73.0] * n), seeds([73.0] * n, first), quantum=step)
    assert (same.mean, same.p, same.verdict) == (0.0, 1.0, "cannot tell")
    assert ends(same)[1] - ends(same)[0] > step
    for image in (1, 2, 20):
        apart = compare(seeds([73.0 + image * step] * n), seeds([73.0] * n, first), quantum=step)
        assert apart.p is not None and apart.p > 0
        assert apart.verdict == ("better" if apart.p < 0.05 else "cannot tell")
        assert image != 20 or apart.verdict == "better"
        assert (image, n) != (1, 3) or apart.verdict == "cannot tell"


@QUICK
@given(a=STEPS, b=STEPS, first=st.sampled_from([0, 100]))
def test_intervals_are_never_narrower_than_one_step(a: list[int], b: list[int], first: int) -> None:
    one, two = seeds([73 + x / 100 for x in a]), seeds([73 + x / 100 for x in b], first)
    coarse, fine = compare(one, two, quantum=0.01), compare(one, two)
    assert ends(coarse)[1] - ends(coarse)[0] > 0.01
    assert coarse.mean == fine.mean and (fine.p is None or coarse.p >= fine.p)
    if fine.low is not None and fine.high - fine.low > 0.05:  # with enough spread, the resolution makes no difference
        assert coarse == fine
    level = estimate(one.values(), quantum=0.01)
    assert level is not None and level.high - level.low > 0.01


def with_images(path: Path, count: int) -> Path:
    (path / "manifest.json").write_text(json.dumps({"data": {"val_images": count}}))
    return path


def test_the_step_is_one_image_of_the_validation_set(make_run: MakeRun, tmp_path: Path) -> None:
    with_images(make_run("adamw", 0), 50_000)
    make_run("adamw", 1)
    with_images(make_run("ranger21", 0), 10_000)
    (tmp_path / "outputs" / "test" / "resnet50-adamw-s1" / "manifest.json").write_text('{"data": {"val_images": -3}}')
    runs = {f"{run.config['optimizer.name']}{run.seed}": run for run in find_runs([str(tmp_path)]).runs}
    assert quantum(runs.values()) == 0.01
    assert quantum([runs["adamw0"], runs["adamw1"]]) == 0.002
    assert quantum([runs["adamw1"]]) == quantum([]) == quantum(runs.values(), "holdout") == 0.0


def test_equal_accuracies_on_a_small_validation_set_give_no_verdict(make_run: MakeRun, tmp_path: Path) -> None:
    """Each of 30 images is worth 3.33 points, so three equal accuracies do not make the difference certain."""
    for seed in range(3):
        make_run("ranger21", seed, (50.0, 76.666667))
        make_run("adamw", seed, (50.0, 73.333333))
    blind = table.markdown(examine([str(tmp_path / "outputs")]).comparisons[0])
    assert "with n = 3 and 3: the difference is 3.33 points for every seed, and without any spread" in blind
    for path in (tmp_path / "outputs" / "test").iterdir():
        with_images(path, 30)
    comparison = examine([str(tmp_path / "outputs")]).comparisons[0]
    row = comparison.rows[0].final_top1
    assert row is not None and row.high - row.low > 100 / 30
    text_of_table = table.markdown(comparison)
    assert "with n = 3 and 3: the difference is 3.33 points (95 % interval -2.52 to 9.19, p = 0.13" in text_of_table
