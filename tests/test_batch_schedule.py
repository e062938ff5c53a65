"""Whole runs with a growing batch: what they log, killing and resuming, several ranks, refused settings."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from support.training import (
    assert_same_state,
    last_checkpoint,
    metrics_lines,
    metrics_without_speed,
    model_weights,
    result,
    run_ranks,
    saved_step,
)

from ranger21.engine.course import Course, Growth
from ranger21.optim.schedules import cosine

# The batch grows from 4 to 16 over the first 96 of 2 x 80 images: 18 steps, 13 of them in the first epoch.
GROWING = ["batch_schedule=linear", "batch_schedule.start=4", "batch_schedule.over=60%", "trainer.epochs=2"]
COURSE = Course(80, 16, 2, growth=Growth(4, 96))


@pytest.fixture
def growing(tiny: list[str]) -> list[str]:
    """The overrides of a run whose batch grows and which logs every step."""
    return [*tiny, *GROWING, "trainer.log_every_steps=1"]


def without_noise(overrides: list[str]) -> list[str]:
    """Return overrides for float64 without batch norm and dropout, so that dividing the batch changes nothing."""
    exact = [*overrides, "trainer.precision=fp64", "model.remove_batch_norm=true"]
    return [override.replace(",drop_rate:0.2", "") for override in exact]


@pytest.mark.parametrize(("scaling", "factor"), [([], 1), (["lr_scaling=linear"], 1 / 4)])
def test_logged_batch_sizes_epochs_and_rates_follow_the_course(
    scaling: list[str], factor: float, growing: list[str], tmp_path: Path
) -> None:
    """The rate is a warm-up of 4 steps, then half a cosine, scaled by the full batch size over 64."""
    overrides = [*growing, "optimizer=adamw", "optimizer.lr=0.01", "schedule=cosine", "schedule.linear_warmup=4"]
    assert run_ranks([*overrides, *scaling], tmp_path / "run", 1) == [0]
    rows, seen = metrics_lines(tmp_path / "run"), 0
    assert [row["step"] for row in rows] == list(range(1, 19))
    assert [row["batch_size"] for row in rows] == [4] * 8 + [8] * 4 + [12] * 3 + [16] * 3
    for row in rows:
        seen += row["batch_size"]
        assert row["images_seen"] == seen == COURSE.seen(row["step"])
        assert row["epoch"] == pytest.approx(COURSE.epoch(row["step"]), rel=1e-7)
    assert {row["step"]: row["epoch"] for row in rows if "val/acc1" in row} == {13: 1, 18: 2}
    assert result(tmp_path / "run")["step"] == COURSE.total_steps == 18
    top, rates = 0.01 * factor, [row["lr"] for row in rows]
    assert rates[:4] == pytest.approx([top * part / 4 for part in range(1, 5)], rel=1e-7)
    assert rates[4:] == pytest.approx([top * cosine(step, 14) for step in range(1, 15)], rel=1e-7)


@pytest.mark.parametrize(
    ("ranks", "kills", "extra"),
    [
        (1, [(5, "before"), (13, "after")], []),
        (2, [(11, "after")], ["optimizer=lion", "optimizer.lookahead_k=5"]),
    ],
)
def test_a_run_killed_while_its_batch_grows_resumes_exactly(
    ranks: int, kills: list[tuple[int, str]], extra: list[str], growing: list[str], tmp_path: Path
) -> None:
    """The kills come at batch sizes 4 and 8, and at the end of the epoch (size 12), before it is recorded."""
    overrides, killed = [*growing, *extra], tmp_path / "killed"
    assert run_ranks(overrides, tmp_path / "whole", ranks) == [0] * ranks
    for step, when in kills:
        assert run_ranks(overrides, killed, ranks, die_at=step, when=when)[-1] == -signal.SIGKILL
        assert 0 < saved_step(killed) < step
    assert run_ranks(overrides, killed, ranks) == [0] * ranks
    assert_same_state(last_checkpoint(killed), last_checkpoint(tmp_path / "whole"))
    assert metrics_without_speed(killed) == metrics_without_speed(tmp_path / "whole")
    assert result(killed)["final"] == result(tmp_path / "whole")["final"]


def test_ranks_and_accumulation_do_not_change_the_result(growing: list[str], tmp_path: Path) -> None:
    exact = without_noise(growing)
    assert run_ranks(exact, tmp_path / "one", 1) == [0]
    assert run_ranks(exact, tmp_path / "two", 2) == [0, 0]
    assert run_ranks([*exact, "trainer.accumulate=2"], tmp_path / "passes", 1) == [0]
    one = model_weights(tmp_path / "one")
    assert one.dtype == torch.float64
    for other in ("two", "passes"):
        assert (model_weights(tmp_path / other) - one).abs().max() < 1e-10
        for a, b in zip(metrics_lines(tmp_path / "one"), metrics_lines(tmp_path / other), strict=True):
            assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-6)
            assert [a[key] for key in ("step", "images_seen", "batch_size", "epoch", "lr")] == [
                b[key] for key in ("step", "images_seen", "batch_size", "epoch", "lr")
            ]


def test_growth_over_0_images_equals_no_growth_with_accumulation(growing: list[str], tmp_path: Path) -> None:
    """Four passes of 4 images from the first step are the same as trainer.accumulate=4 without growth."""
    at_once = [*growing, "batch_schedule.over=0 images"]
    plain = [*growing, "batch_schedule=none", "trainer.accumulate=4"]
    plain = [o for o in plain if not o.startswith(("batch_schedule=linear", "batch_schedule."))]
    assert run_ranks(at_once, tmp_path / "once", 1) == run_ranks(plain, tmp_path / "plain", 1) == [0]
    assert_same_state(last_checkpoint(tmp_path / "once"), last_checkpoint(tmp_path / "plain"))
    rows = metrics_without_speed(tmp_path / "once")
    assert [row.pop("batch_size") for row in rows] == [16] * 10
    assert rows == metrics_without_speed(tmp_path / "plain")


@pytest.mark.parametrize(
    ("overrides", "ranks", "sentence"),
    [
        (["data.batch_size=18"], 1, "data.batch_size=18 must be a multiple of batch_schedule.start=4."),
        (
            ["batch_schedule.over=20"],
            1,
            "batch_schedule.over=20 is invalid: it must be in images, epochs or percent.",
        ),
        (
            ["trainer.accumulate=4"],
            2,
            "batch_schedule.start=4 cannot be divided evenly among 2 ranks x trainer.accumulate=4. Choose a multiple "
            "of 8.",
        ),
    ],
)
def test_impossible_batch_schedules_are_refused(
    overrides: list[str], ranks: int, sentence: str, growing: list[str], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    assert run_ranks([*growing, *overrides], directory, ranks) == [1] * ranks
    assert f"UserError: {sentence}\n" in directory.with_suffix(".out").read_text()
    assert not (directory / "metrics.jsonl").exists()
