"""Kept checkpoints (trainer.keep_every, schedule=cyclic) and their ensemble."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.project import ROOT
from support.training import TINY, run_ranks

from ranger21.config.compose import compose_config
from ranger21.models.ensemble import Ensemble
from ranger21.models.evaluated import Request
from ranger21.models.scoring import score_ensemble
from ranger21.models.weights import read_any
from ranger21.records.checkpoint_file import read
from ranger21.run.optimizers import build_schedule
from ranger21.run.plan import make_plan
from ranger21.system.errors import UserError

CYCLES = ["schedule=cyclic", "schedule.half_cycle=3"]  # four cycles of 6 steps: 20 steps end in the fourth


def kept(*overrides: str, images: int = 80) -> list[int]:
    plan = make_plan(compose_config([*TINY, "data.root=/data", *overrides]), images)
    return [step for step in range(plan.total_steps + 1) if plan.keeps(step)]


def test_checkpoints_are_kept_at_the_ends_of_intervals() -> None:
    assert kept() == []
    assert kept("trainer.keep_every=2 epochs") == [10, 20]
    assert kept("trainer.keep_every=6 steps") == [6, 12, 18]
    assert kept("trainer.keep_every=100 images") == [7, 13, 19]  # of 16 images a step: 6.25, 12.5, 18.75
    assert kept("trainer.keep_every=25%") == [5, 10, 15, 20]
    assert kept(*CYCLES, "trainer.keep_every=9") == [9, 18]  # what is typed wins


@pytest.mark.parametrize("warmup", ["0", "3", "2.5 epochs"])
def test_a_cyclic_schedule_keeps_the_end_of_every_cycle(warmup: str) -> None:
    """The rate is lowest in the step after it, with which the next cycle begins."""
    config = compose_config([*TINY, "data.root=/data", *CYCLES, f"schedule.linear_warmup={warmup}"])
    plan = make_plan(config, 80)
    rate = build_schedule(config.schedule, plan.course)
    steps = [step for step in range(plan.total_steps) if plan.keeps(step)]
    assert len(steps) >= 1
    lowest = [s for s in range(2, 21) if rate(s, 20) == pytest.approx(0.1) and rate(s - 1, 20) > rate(s, 20)]
    assert [step + 1 for step in steps] == lowest


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("snapshots") / "run"
    assert run_ranks([*TINY, f"data.root={images}", *CYCLES], directory, 1) == [0]
    return directory


def test_a_killed_run_keeps_the_same_checkpoints(run: Path, images: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
    assert names == ["step-00000006.pt", "step-00000012.pt", "step-00000018.pt"]
    arguments = ([*TINY, f"data.root={images}", *CYCLES], tmp_path / "run", 1)
    assert run_ranks(*arguments, die_at=13, when="before") != [0]
    assert run_ranks(*arguments) == [0]
    for name in names:
        one, other = (read(place / "checkpoints" / name) for place in (run, tmp_path / "run"))
        assert one["progress"]["step"] == other["progress"]["step"] == int(name[5:13])
        assert all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())


def test_an_ensemble_averages_the_probabilities_of_its_members() -> None:
    torch.manual_seed(0)
    members, images = [torch.nn.Linear(5, 4) for _ in range(3)], torch.randn(6, 5)
    expected = sum(member(images).softmax(1) for member in members) / 3
    assert torch.allclose(Ensemble(members)(images).exp(), expected, atol=1e-6)


def test_a_run_is_evaluated_as_an_ensemble(run: Path, images: Path) -> None:
    scored = score_ensemble(Request(str(run), [f"data.root={images}"]))
    assert scored is not None
    results: dict[str, Any] = {name: result for name, (result, _) in scored}
    assert list(results) == ["step-00000006.pt", "step-00000012.pt", "step-00000018.pt", "ensemble"]
    losses = [result["val/loss"] for result in results.values()]
    assert losses[3] <= sum(losses[:3]) / 3 + 1e-6  # by the concavity of the logarithm
    assert len({*losses}) == 4 and math.isfinite(losses[3])
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/evaluate.py"), str(run), f"data.root={images}", "--ensemble"],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-2].startswith("ensemble") and f"loss {losses[3]:.4f}" in lines[-2]
    assert lines[-1] == "30 images. The ensemble costs 3 forward passes for an image, and the memory of 3 models."


def test_a_run_without_kept_checkpoints_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="has no kept checkpoints: --ensemble needs the directory of a run"):
        score_ensemble(Request(str(tmp_path)))
    assert read_any(str(run / "checkpoints" / "step-00000006.pt")).run is not None
