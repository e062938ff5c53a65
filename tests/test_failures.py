"""A divergence is a result: made runs of which some failed, through the comparison's own code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from made_runs import Make

from ranger21.report.failures import failed, loss_of_failed, top1_of_failed, top5_of_failed
from ranger21.report.runs import Run, read_run


def read(path: Path) -> Run:
    run = read_run(path)
    assert isinstance(run, Run), run
    return run


# What is a failure, and what it counts as


@pytest.mark.parametrize("value", ["NaN", "null", "Infinity", "1e300"])
@pytest.mark.parametrize("key", ["val/loss", "val/acc1", "holdout/loss"])
def test_a_finished_run_whose_last_validation_is_not_finite_failed(make: Make, key: str, value: str) -> None:
    run = read(make(tail=f'{{"step": 30, "epoch": 3.0, "val/acc5": 61.0, "{key}": {value}}}\n'))
    assert failed(run)
    assert run.notes == (f"{key} of its last validation (step 30) not finite: counted as diverged",)


def test_a_run_failed_by_its_last_validation_alone(make: Make) -> None:
    recovered = make(seed=1, tail='{"step": 25, "val/loss": NaN}\n{"step": 30, "val/acc1": 60.0, "val/loss": 4.0}\n')
    mended = make(seed=2, tail='{"step": 20, "val/loss": NaN}\n{"step": 20, "val/loss": 4.0}\n')
    training = make(seed=3, tail='{"step": 30, "train/loss": NaN}\n')
    running = make(seed=4, status="running", tail='{"step": 30, "val/loss": null}\n')
    assert [(failed(run), run.notes) for run in map(read, (recovered, mended, training))] == [(False, ())] * 3
    assert not failed(read(running))


def test_a_failed_run_counts_as_chance(make: Make) -> None:
    path = make(status="diverged")
    assert (top1_of_failed(read(path)), top5_of_failed(read(path)), loss_of_failed(read(path))) == (0.0, 0.0, None)
    (path / "manifest.json").write_text(json.dumps({"data": {"classes": 8}}))
    run = read(path)
    assert (top1_of_failed(run), top5_of_failed(run), loss_of_failed(run)) == (12.5, 62.5, pytest.approx(math.log(8)))
    (path / "manifest.json").write_text(json.dumps({"data": {"classes": 3}}))
    assert top5_of_failed(read(path)) == 100.0
