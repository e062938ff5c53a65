"""The scripts, run as real commands on runs made here."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from support.command_runner import CommandRunner
from support.page_browser import needs_browser
from support.project import ROOT
from support.training import last_checkpoint, metrics_lines, result, run_ranks

from ranger21.data.datasets.fashion_mnist import DEBIAN, is_in


@pytest.fixture
def script(commands: CommandRunner) -> Callable[..., str]:
    """Run scripts/NAME with arguments and return its output."""

    def run(name: str, *args: str) -> str:
        done = commands.complete(name, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def in_its_own_process(name: str, *args: str) -> str:
    """Run scripts/NAME, which starts processes itself, in a new process; return its output."""
    command = [sys.executable, str(ROOT / "scripts" / name), *args]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_evaluate_gives_the_accuracy_that_the_run_recorded(script, tiny, tmp_path):
    """The batch size does not matter; `best.pt` is the default; overrides work as in train.py."""
    assert run_ranks(tiny, tmp_path / "run", 1) == [0]
    best = json.loads(script("evaluate.py", str(tmp_path / "run"), "--json", "data.eval_batch_size=7"))
    expected = result(tmp_path / "run")["best"]
    assert best["images"] == 30
    for name in ("val/acc1", "val/acc5", "val/loss", "val/loss_smoothed"):
        assert best[name] == pytest.approx(expected[name], rel=1e-5)
    last = script("evaluate.py", str(tmp_path / "run" / "checkpoints" / "last.pt"))
    assert f"top-1 {metrics_lines(tmp_path / 'run')[-1]['val/acc1']:.2f} %" in last


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_timm_can_load_exported_weights(script, remove, suffix, tiny, tmp_path):
    overrides = [*tiny, f"model.remove_batch_norm={str(remove).lower()}", "trainer.steps=2"]
    assert run_ranks(overrides, tmp_path / "run", 1) == [0]
    target = tmp_path / f"weights{suffix}"
    line = script("export.py", str(tmp_path / "run" / "checkpoints" / "last.pt"), str(target)).strip()
    model = eval(line, {"timm": timm, "torch": torch})
    for name, tensor in last_checkpoint(tmp_path / "run")["model"].items():
        assert torch.equal(model.state_dict()[name], tensor)


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_loop_benchmark_prints_a_ratio(ranks):
    small = ("--size", "32", "--batch", "8", "--steps", "5", "--pairs", "2", "--device", "cpu", "--ranks", str(ranks))
    text = in_its_own_process("bench_loop.py", *small)
    assert "ratio" in text and "n = 2" in text and torch.__version__ in text and f"{ranks} rank(s)" in text


@pytest.mark.slow
@needs_browser
def test_the_page_benchmark_prints_each_interaction(tmp_path):
    pytest.importorskip("playwright", reason="needs pip install playwright")
    small = ("--runs", "20", "--lines", "10", "--rounds", "1", "--keep", str(tmp_path))
    text = in_its_own_process("bench_page.py", *small)
    times = {line[:42].strip(): float(line[42:].split()[0]) for line in text.splitlines()[1:]}
    assert {"zoom", "tap", "dark mode", "before printing"} <= set(times) and all(time > 0 for time in times.values())
    assert (tmp_path / "index.html").is_file()


def test_compare_reports_real_runs(script, tiny, tmp_path):
    for seed in (0, 1):
        assert run_ranks([*tiny, f"seed={seed}"], tmp_path / "runs" / str(seed), 1) == [0]
    text = script("compare.py", str(tmp_path / "runs"), "--out", str(tmp_path / "out"))
    assert "ranger21" in text and (tmp_path / "out" / "index.html").stat().st_size > 5000
    assert len([*(tmp_path / "out").glob("*/figure2_curves.png")]) == 1
    row = (tmp_path / "out" / "table.csv").read_text().splitlines()[1].split(",")
    assert "2" in row


@pytest.mark.skipif(not is_in(DEBIAN), reason="needs Debian's package: apt-get install dataset-fashion-mnist")
def test_a_short_run_learns_fashion_mnist(tmp_path):
    overrides = ["experiment=fashion_mnist", "logger=none", "trainer.steps=60", "optimizer=adamw", "trainer.device=cpu"]
    assert run_ranks(overrides, tmp_path / "run", 1) == [0]
    assert result(tmp_path / "run")["final"]["val/acc1"] > 60
    manifest = json.loads(Path(tmp_path / "run" / "manifest.json").read_text())
    assert manifest["data"]["train_images"] == 60_000 and manifest["data"]["val_images"] == 10_000
