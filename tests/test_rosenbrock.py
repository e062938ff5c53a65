"""rosenbrock.py: the real command with three optimizers, and the choice of a learning rate from made-up paths."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from itertools import repeat

import numpy as np
import pytest
import torch
from support.project import ROOT

from ranger21.landscape import rosenbrock as landscapes
from ranger21.landscape.rosenbrock import LOST, TARGET, best_rate, gradient, judge, value
from ranger21.tracking.colours import look_of

START = (-1.2, 1.0)
SMALL = ("--steps", "300", "--search-steps", "100", "--grid", "1e-4", "1e-2", "5", "--jobs", "1")


def command(*args: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "scripts" / "rosenbrock.py"), *args]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(line, capture_output=True, text=True, timeout=120, env=env)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rosenbrock") / "new"
    done = command("--optimizers", "adamw,ranger21,gd", *SMALL, "--out", str(folder))
    assert done.returncode == 0, done.stderr
    assert all(f"wrote {folder / name}" in done.stdout for name in ("table.md", "trajectories.svg"))
    return folder


@pytest.fixture(scope="module")
def table(out):
    return json.loads((out / "table.json").read_text())


def test_tables_and_figures_are_written(out, table):
    assert (out / "trajectories.png").read_bytes()[:4] == b"\x89PNG" and (out / "trajectories.png").stat().st_size > 2e4
    svg = (out / "trajectories.svg").read_text()
    assert all(f"<!-- {name} -->" in svg for name in ("adamw", "ranger21", "gd"))
    assert all(look_of(name).light.lower() in svg for name in ("adamw", "ranger21", "gd"))
    assert table["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert "5 rates" in table["protocol"] and "300 steps" in table["protocol"] and "--steps 300" in table["command"]


def test_the_table_agrees_with_the_json(out, table):
    lines = (out / "table.md").read_text().splitlines()
    assert f"- protocol: {table['protocol']}" in lines and f"- torch: {table['torch']}" in lines
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    assert {row[0] for row in cells} == {"adamw", "ranger21", "gd"}
    for row, walk in zip(cells, table["walks"], strict=True):
        assert row[0] == walk["optimizer"] and float(row[1]) == pytest.approx(walk["rate"], rel=0.01)
        assert row[2] == "not in 300" if walk["steps_to_target"] is None else row[2] == str(walk["steps_to_target"])
        assert float(row[3]) == pytest.approx(walk["final_f"], rel=0.01)
        assert float(row[4]) == pytest.approx(walk["distance"], rel=0.01)
        assert row[5] == walk["note"]
    ranks = [(walk["steps_to_target"] or math.inf, walk["final_f"]) for walk in table["walks"]]
    assert ranks == sorted(ranks)


def test_gd_equals_gradient_descent_by_hand(table):
    """gd's final f and learning rate equal those of gradient descent written by hand."""

    def descend(rate: float) -> float:
        x = np.array(START)
        for _ in range(300):
            x = x - rate * np.array([-2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)])
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2

    (gd,) = (walk for walk in table["walks"] if walk["optimizer"] == "gd")
    assert gd["final_f"] == pytest.approx(descend(gd["rate"]), rel=1e-9)
    with np.errstate(over="ignore", invalid="ignore"):
        ends = {rate: descend(rate) for rate in 1e-4 * 100 ** (np.arange(5) / 4)}
    best = min((f, rate) for rate, f in ends.items() if math.isfinite(f))[1]
    assert gd["rate"] == pytest.approx(best, rel=0.01)  # the grid is rounded to three digits


def test_an_unknown_optimizer_is_refused(tmp_path):
    done = command("--optimizers", "adamw,adamax", "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: There is no optimizer 'adamax'. Choose from ranger21, ")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("args", "message"), [(("--grid", "1", "0.1", "5"), "--grid needs")])
def test_impossible_numbers_are_refused(args, message, tmp_path):
    done = command(*args, "--out", str(tmp_path))
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("point", [(-1.2, 1.0), (0.0, 0.0), (1.7, -2.3), (1.0, 1.0)])
def test_the_gradient_equals_autograds(point):
    x, y = (torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in point)
    value(x, y).backward()
    assert gradient(*point) == pytest.approx((float(x.grad), float(y.grad)), rel=1e-12)


def on_axis(*fs: float):
    """Yield points with these values of f, then the last point again and again; the points lie above the minimum."""
    points = [(1.0, 1 + math.sqrt(f / 100)) for f in fs]
    yield from points
    yield from repeat(points[-1])


def test_the_best_rate_reaches_the_target_first():
    below = TARGET / 2
    assert best_rate([on_axis(9, 9, below), on_axis(9, below, 9), on_axis(9, 9, 9, below)], 5, 5) == 1
    assert best_rate([on_axis(9, 9, below), on_axis(9, 9, below / 2)], 2, 9) == 1  # both at once, so the lower f wins
    assert best_rate([on_axis(9, 5), on_axis(9, 4), on_axis(9, 6)], 3, 5) == 1
    assert best_rate([on_axis(9, 8, 7, below), on_axis(9, 7, 7), on_axis(9, 9, 7, 6, below)], 1, 9) == 0
    assert best_rate([iter([START]), on_axis(9, 1e3)], 1, 9) == 1  # the first diverged


def test_all_rates_may_diverge():
    assert best_rate([iter([START]), iter([START])], 10, 20) in (0, 1)
    walk = judge("gd", 1.0, True, [START, (0.0, 9.0)], [iter([START])], 20)
    assert walk.note == "diverged at step 2, rate at the grid's edge" and walk.final_f is None
    assert "| not in 20 | – | – |" in landscapes.markdown([walk]) and value(500, 0) > LOST


def test_a_path_that_leaves_the_minimum_again_is_marked():
    low, high = (1.0, 1.0), (0.0, 0.0)
    assert judge("lion", 1.0, False, [high, low, high, low, low], [], 4).note == "below for good from step 3"
    assert judge("lion", 1.0, False, [high, low, low, low, high], [], 4).note == "above it again at the end"
    assert judge("lion", 1.0, False, [high, low, low, low, low], [], 4).note == ""
    assert judge("lion", 1.0, False, [high, high, high], [], 2).note == ""


def test_a_chaotic_path_is_marked():
    path = [(0.0, 0.0), (1.0, 1.0), (1.0, 1.0)]
    nudged = [on_axis(9, TARGET / 2), on_axis(9, 9, TARGET / 2), on_axis(9, 8, 9), iter([START])]
    walk = judge("ranger21", 1.0, False, path, nudged, 2)
    assert (
        walk.nudged_steps_to_target == [1, 2, None, None]
        and walk.note == "chaotic: 2 of 4 get there with the rate off by 1e-12"
    )
    assert judge("gd", 1.0, False, path, [on_axis(9, TARGET / 2) for _ in range(4)], 2).note == ""
    assert judge("chain", 1.0, False, path, nudged[:0], 2).note == ""
