"""Time to target: runs that reach it, never reach it, diverge, or are still running."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from scipy.stats import beta
from support.run_directories import MakeRun, logged_lines

from ranger21.report.groups.comparisons import GroupComparison, compare_like_with_like
from ranger21.report.runs.finding import find_runs
from ranger21.report.statistics.proportions import share_interval
from ranger21.report.statistics.survival import Arrivals
from ranger21.report.targets import table as targets_table
from ranger21.report.targets.figure import write_targets_figure
from ranger21.report.targets.table import PICTURE, median_of, notes, section
from ranger21.report.targets.targets import GroupAtTarget, at_target, not_asked, targets_of
from ranger21.report.write import examine, write_tables

Record = Callable[[str, object], None]


def read(place: Path) -> GroupComparison:
    (comparison,) = compare_like_with_like(find_runs([str(place)]).runs)
    return comparison


def by_label(rows: Iterable[GroupAtTarget]) -> dict[str, GroupAtTarget]:
    return {row.group.label: row for row in rows}


# The estimate


def kaplan_meier(arrived: list[float], waiting: list[float], never: int, time: float) -> float:
    """Return the share that has arrived by a time, computed by the product over arrivals in plain loops."""
    absent = 1.0
    for event in sorted({t for t in arrived if t <= time}):
        at_risk = sum(t >= event for t in [*arrived, *waiting]) + never
        absent *= 1 - arrived.count(event) / at_risk
    return 1 - absent


def test_the_share_is_the_kaplan_meier_estimate() -> None:
    random = np.random.default_rng(3)
    for _ in range(40):
        arrived, waiting = ([float(t) for t in random.integers(1, 9, random.integers(0, 6))] for _ in range(2))
        never = int(random.integers(0, 3))
        times, share, low, high = Arrivals(tuple(arrived), tuple(waiting), never).curve
        assert share.tolist() == pytest.approx([kaplan_meier(arrived, waiting, never, t) for t in times])
        inside = ~np.isnan(low) & ~np.isnan(high)
        assert (low[inside] <= share[inside]).all()
        assert (share[inside] <= high[inside]).all()


def test_without_running_runs_it_is_the_plain_share() -> None:
    times, share, _, _ = Arrivals((10.0, 20.0, 30.0), never=2).curve
    assert dict(zip(times.tolist(), share.tolist(), strict=True)) == pytest.approx({10: 0.2, 20: 0.4, 30: 0.6})


@pytest.mark.parametrize(
    ("arrivals", "median"),
    [
        (Arrivals((10.0, 20.0, 30.0)), 20.0),
        (Arrivals((10.0, 20.0, 30.0, 40.0)), 20.0),  # when half of them have arrived
        (Arrivals((10.0,), never=2), math.inf),
        (Arrivals((10.0,), never=1), 10.0),
        (Arrivals((), never=3), math.inf),
        (Arrivals((10.0,), (15.0, 15.0)), None),  # it depends on the two running ones
        (Arrivals((10.0,), (15.0,), never=3), math.inf),  # three of five never arrive
        (Arrivals((), (0.0,)), None),
        (Arrivals(()), math.inf),
    ],
)
def test_the_median_includes_runs_that_never_arrive(arrivals: Arrivals, median: float | None) -> None:
    assert arrivals.median().value == median


def test_the_median_needs_five_runs_for_an_interval_and_failures_open_it() -> None:
    assert Arrivals((1.0, 2.0, 3.0, 4.0)).median().low is None
    median = Arrivals((10.0, 20.0, 30.0), never=2).median()
    assert (median.low, median.value, median.high) == (10.0, 30.0, math.inf)


@pytest.mark.parametrize("never", [0.0, 0.3])
@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_of_the_median_has_its_coverage(n: int, never: float, record_property: Record) -> None:
    random = np.random.default_rng(n)
    truth = np.quantile(random.lognormal(7, 0.3, 200_000), 0.5 / (1 - never))
    covered = 0
    for _ in range(300):
        failed = int((random.random(n) < never).sum())
        median = Arrivals(tuple(random.lognormal(7, 0.3, n - failed)), never=failed).median()
        assert median.low is not None
        assert median.high is not None
        covered += bool(median.low <= truth <= median.high)
    record_property("covered", covered / 300)
    assert covered / 300 > 0.9


def test_the_share_has_a_clopper_pearson_interval() -> None:
    for count, n in [(0, 5), (2, 3), (5, 5), (7, 20)]:
        low = beta.ppf(0.025, count, n - count + 1) if count else 0.0
        high = beta.ppf(0.975, count + 1, n - count) if count < n else 1.0
        assert share_interval(count, n) == pytest.approx((low, high))


# Recorded runs


def test_each_state_is_counted_and_diverged_runs_count_as_never(make_run: MakeRun, tmp_path: Path) -> None:
    """Three of five reach 75 %; without the two diverged runs, it would be all of them."""
    fixed = {"protocol__targets": [75.0, 90], "trainer__epochs": 4}
    for seed in range(5):
        make_run("adamw", seed, (70.0, 74.9, 75.0, 74.0), **fixed)
    for seed in range(3):
        make_run("nesterov", seed, (60.0, 76.0, 70.0, 75.7), **fixed)
    make_run("nesterov", 3, (), status="diverged", **fixed)
    make_run("nesterov", 4, (60.0, 70.0), status="diverged", **fixed)
    make_run("ranger21", 0, (80.0,), status="running", **fixed)
    make_run("ranger21", 1, (60.0, 70.0), status="running", tail='{"step": 29, "epoch": 2.9, "lr": 1}\n', **fixed)
    make_run("ranger21", 2, (60.0, 80.0, 10.0), status="diverged", **fixed)  # it reached the target before it diverged
    comparison = read(tmp_path)
    assert targets_of(comparison) == [75.0, 90.0]
    rows = by_label(at_target(comparison, 75.0))
    counts = {label: [row.having(s) for s in ("reached", "never", "not yet")] for label, row in rows.items()}
    assert counts == {"adamw": [5, 0, 0], "nesterov": [3, 2, 0], "ranger21": [2, 0, 1]}
    assert [c.at for c in rows["adamw"].runs] == [{"steps": 30.0, "seconds": 1800.0}] * 5
    steps = {label: median_of(row, "steps") for label, row in rows.items()}
    assert {label: median.value for label, median in steps.items() if median} == {
        "adamw": 30.0,
        "nesterov": 20.0,
        "ranger21": 20.0,
    }
    assert steps["nesterov"] is not None
    assert steps["nesterov"].high == math.inf
    assert rows["ranger21"].runs[1].at["steps"] == 20  # at its last validation; at step 29 there was none
    assert rows["adamw"].arrivals("images") is None  # not logged
    assert {row.having("reached") for row in at_target(comparison, 90.0)} == {0}


def test_only_targets_in_every_runs_config_are_evaluated(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", 0, protocol__targets=[60, 50, 120, -3, "x", True])
    make_run("adamw", 1, protocol__targets=[60.0, 55])
    make_run("ranger21", 0, protocol__targets=[60])
    comparison = read(tmp_path)
    assert targets_of(comparison) == [60.0]
    assert not_asked(comparison) == [
        "The target of 50 % is left out, as it is not in the configuration of adamw seed 1, ranger21 seed 0.",
        "The target of 55 % is left out, as it is not in the configuration of adamw seed 0, ranger21 seed 0.",
    ]
    make_run("nesterov", 0)
    assert targets_of(read(tmp_path)) == []


def test_targets_missing_in_one_run_of_a_repeated_seed_are_reported(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", 0, name="a")
    make_run("adamw", 0, name="b", protocol__targets=[50])
    out = tmp_path / "out"
    assert "targets.md" in write_tables(examine([str(tmp_path / "outputs")]), out)
    _, page = section(read(tmp_path / "outputs"))
    said = "The target of 50 % is left out, as it is not in the configuration of adamw seed 0."
    assert said in (out / "targets.md").read_text() and said in page
    assert PICTURE not in page


def test_the_slower_run_of_a_repeated_seed_counts(make_run: MakeRun, tmp_path: Path) -> None:
    for name, top1 in {"a": (70.0, 70.0, 70.0), "b": (50.0, 70.0, 70.0), "c": (50.0, 50.0, 50.0)}.items():
        make_run("adamw", 0 if name != "c" else 1, top1, name=name, protocol__targets=[60])
    make_run("adamw", 0, (50.0,), name="d", status="running", protocol__targets=[60], trainer__epochs=3)
    (row,) = at_target(read(tmp_path), 60.0)
    assert [(c.state, c.at.get("steps")) for c in row.runs] == [("reached", 20.0), ("never", None)]


def test_the_holdout_is_used_if_there_is_one(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("adamw", 0, (50.0, 60.0), protocol__targets=[55], data__holdout=100)
    held = [json.loads(line) for line in logged_lines((50.0, 60.0))]
    renamed = [{k.replace("val/", "holdout/"): v for k, v in row.items()} for row in held]
    text = "".join(json.dumps(row) + "\n" for row in renamed)
    (path / "metrics.jsonl").write_text(text + '{"step": 21, "epoch": 2.1, "val/acc1": 99, "val/loss": 1}\n')
    comparison = read(tmp_path)
    (row,) = at_target(comparison, 55.0)
    assert row.runs[0].at["steps"] == 20
    assert by_label(at_target(comparison, 90.0))["adamw"].having("never") == 1
    assert notes(comparison)[0] == "Top-1 is measured on the holdout of the training set."


def test_different_validation_intervals_are_reported(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", 0, (50.0, 60.0, 61.0, 62.0), protocol__targets=[55])
    path = make_run("nesterov", 0, (50.0, 60.0, 61.0, 62.0), protocol__targets=[55])
    kept = [row for row in map(json.loads, logged_lines((50.0, 60.0, 61.0, 62.0))) if row["step"] % 20 == 0]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert notes(read(tmp_path))[1:] == [
        "Validated every 10 steps, which limits the resolution of these times: adamw.",
        "Validated every 20 steps, which limits the resolution of these times: nesterov.",
    ]


# Written files


def test_targets_appear_in_tables_figure_and_page(make_run: MakeRun, tmp_path: Path) -> None:
    for optimizer, seed in product(("adamw", "nesterov"), range(5)):
        status = "diverged" if (optimizer, seed) == ("nesterov", 1) else "finished"
        top1 = (60.0, 70.0 if status == "finished" else 50.0)
        make_run(optimizer, seed, top1, status=status, protocol__targets=[65, 80])
    comparison = read(tmp_path)
    text = targets_table.markdown([comparison])
    assert "| adamw | 5 | 5 of 5 | 48 to 100 % | 0 | 20 (20 or more) | – | 20.0 (20.0 or more) |" in text
    assert "| nesterov | 5 | 4 of 5 | 28 to 99 % | 0 | 20 (20 or more) | – | 20.0 (20.0 or more) |" in text
    heading, html = targets_table.section(comparison)
    assert heading == "Time to target: resnet50 on photos"
    assert "<td>4 of 5</td><td>28 to 99 %</td>" in html
    targets_table.write_csv([comparison], tmp_path / "targets.csv")
    found = list(csv.DictReader((tmp_path / "targets.csv").read_text().splitlines()))
    assert [(r["target_percent"], r["group"], r["reached"], r["never"], r["steps_median"]) for r in found] == [
        ("65", "adamw", "5", "0", "20.0"),
        ("65", "nesterov", "4", "1", "20.0"),
        ("80", "adamw", "0", "5", "inf"),
        ("80", "nesterov", "0", "5", "inf"),
    ]
    written = write_targets_figure(comparison, tmp_path)
    assert [path.name for path in written] == ["time_to_target.png", "time_to_target.svg"]
    assert imread(written[0])[..., :3].std() > 0.02


def test_without_targets_no_files_are_written(make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    comparison = read(tmp_path)
    assert (targets_of(comparison), not_asked(comparison)) == ([], [])
    assert write_targets_figure(comparison, tmp_path) == []
