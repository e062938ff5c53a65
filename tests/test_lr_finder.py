"""The learning rate range test: its suggestion, its command, and that it restores everything; plots of schedules."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from support.command_runner import CommandRunner
from support.training import assert_same_state

from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.engine.lr_finder import RangeTest, range_test
from ranger21.run.build import build_loader, build_parts, build_setup, build_state
from ranger21.system.distributed import join
from ranger21.tracking import FanOut


def curve(loss: list[float]) -> RangeTest:
    return RangeTest([10.0 ** (i - 6) for i in range(len(loss))], loss, loss)


def test_the_suggestion_is_the_steepest_descent_up_to_a_tenth_of_the_lowest_loss() -> None:
    assert curve([3.0, 2.9, 2.0, 1.9, 1.8, 4.0]).suggestion == pytest.approx(1e-4)
    assert curve([3.0, 2.9, 2.8, 1.0, 4.0]).suggestion == pytest.approx(1e-4), "a tenth of 1e-3, where it is lowest"
    assert curve([1.0, 2.0, 3.0]).suggestion is None
    assert curve([3.0, 2.0, 3.0]).suggestion == pytest.approx(1e-6)
    assert curve([2.0, 1.9]).suggestion == pytest.approx(1e-6)


def test_the_range_test_trains_and_restores_model_and_optimizer(tiny: list[str], tmp_path: Path) -> None:
    config = compose_config([*tiny, "optimizer=adamw", "optimizer.lookahead_k=3", "trainer.steps=30"])
    with join("cpu") as world:
        parts = build_parts(config, world, build_data(config.data, 0))
        state, _ = build_state(parts)
        setup = build_setup(parts, state, iter(build_loader(parts, 1)))
        before = copy.deepcopy({"model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()})
        found = range_test(setup, state, FanOut([]), 1e-6, 1e3, 30)
        setup.batches.close()
        after = {"model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()}
        rest = {"scaler": {}, "progress": dict.fromkeys(("step", "best", "last")), "meter": []}
        assert_same_state(before | rest, after | rest)
    assert len(found.rates) < 30, "it must end early when the loss explodes"
    ratios = torch.tensor(found.rates[1:]) / torch.tensor(found.rates[:-1])
    assert torch.allclose(ratios, ratios[0].expand_as(ratios))
    assert found.suggestion is None or 1e-6 <= found.suggestion < 1
    assert all(math.isfinite(loss) for loss in found.losses)


def test_the_command_draws_a_picture_and_suggests_a_rate(
    commands: CommandRunner, tiny: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "lr.png"
    done = commands.complete("find_lr.py", *tiny, "--steps", "20", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "suggested: " in done.stdout and out.read_bytes()[1:4] == b"PNG"
    values = json.loads(out.with_suffix(".json").read_text())
    assert len(values["rates"]) == len(values["losses"]) > 5


def test_impossible_ranges_are_refused(commands: CommandRunner) -> None:
    done = commands.complete("find_lr.py", "experiment=demo", "--low", "1", "--high", "0.1")
    assert (done.returncode, done.stderr) == (1, "error: --low=1 must be above 0 and below --high=0.1.\n")


def test_schedules_are_drawn(commands: CommandRunner, tmp_path: Path) -> None:
    out = tmp_path / "schedules.png"
    words = ("optimizer=ranger21", "schedule=step", "--images", 6400, "--out", out)
    done = commands.complete("show_schedule.py", *words)
    assert done.returncode == 0 and out.read_bytes()[1:4] == b"PNG", done.stderr
    assert "optimizer=ranger21: first 2.27e-06, highest 0.003, last 0, 60 epochs" in done.stdout
