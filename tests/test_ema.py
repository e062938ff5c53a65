"""`trainer.ema`: the average of the weights is right, chooses the best, and can be evaluated.

tests/test_batch_norm_statistics.py kills runs that keep an average.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.project import ROOT
from support.training import (
    TINY,
    last_checkpoint,
    metrics_lines,
    result,
)

from ranger21.config.compose import compose_config
from ranger21.landscape.subject import Checkpoint
from ranger21.models.evaluated import Request
from ranger21.models.scoring import score
from ranger21.models.weights import read_any
from ranger21.records.checkpoint_file import AVERAGE, read
from ranger21.run import experiment
from ranger21.system.errors import UserError

DECAY = 0.6
SHORT = [
    "trainer.steps=6",
    "trainer.eval_every_steps=2",
    "trainer.log_every_steps=1",
    "optimizer=adamw",
    "data.holdout=10",
]


@pytest.fixture(scope="module")
def train(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train in this process with further overrides, and return the run directory."""
    place = tmp_path_factory.mktemp("runs")

    def run(name: str, *overrides: str) -> Path:
        config = compose_config([*TINY, f"data.root={images}", *SHORT, *overrides])
        assert experiment.run(config, place / name) == 0
        return place / name

    return run


@pytest.fixture(scope="module")
def averaged(train: Any) -> Path:
    """A run with an average, of which the checkpoint of every step is kept."""
    return train("averaged", f"trainer.ema={DECAY}", "trainer.keep_every=1 steps")


def test_the_average_follows_its_formula_for_weights_and_buffers(averaged: Path) -> None:
    steps = sorted((averaged / "checkpoints").glob("step-*.pt"))
    assert len(steps) == 6
    expected = read(steps[0])[AVERAGE]
    assert any("running_mean" in name for name in expected)
    for state in map(read, steps[1:]):
        for name, weight in state["model"].items():
            part = DECAY * expected[name] + (1 - DECAY) * weight if weight.is_floating_point() else weight
            torch.testing.assert_close(state[AVERAGE][name], part, rtol=1e-5, atol=1e-7)
            expected[name] = part


def test_training_is_the_same_with_and_without_an_average(averaged: Path, train: Any) -> None:
    plain = train("plain")
    with_average, without = last_checkpoint(averaged), last_checkpoint(plain)
    assert all(torch.equal(tensor, with_average["model"][name]) for name, tensor in without["model"].items())
    assert AVERAGE not in without
    for one, other in zip(metrics_lines(averaged), metrics_lines(plain), strict=True):
        assert {
            key: other[key] for key in other if key.startswith(("val/", "holdout/", "train/"))
        }.items() <= one.items()
        assert {key for key in one if "_ema/" in key} == {
            f"{split}_ema/{name}"
            for split in ("val", "holdout") if f"{split}/acc1" in one
            for name in ("acc1", "acc5", "loss", "loss_smoothed")
        }  # fmt: skip


def test_best_is_the_validation_with_the_best_average(averaged: Path) -> None:
    """It has the raw weights' metrics of the same images, and none of the official set, which did not choose it."""
    best, lines = result(averaged)["best"], metrics_lines(averaged)
    assert best["holdout_ema/acc1"] == max(line["holdout_ema/acc1"] for line in lines if "holdout_ema/acc1" in line)
    assert {name.partition("/")[0] for name in best} == {"step", "epoch", "holdout", "holdout_ema"}
    assert read(averaged / "checkpoints" / "best.pt")["progress"]["step"] == best["step"]
    assert {"val/acc1", "val_ema/acc1"} <= result(averaged)["final"].keys()


def test_evaluation_and_landscapes_choose_between_the_two(averaged: Path, train: Any) -> None:
    last = str(averaged / "checkpoints" / "last.pt")
    final, scored = result(averaged)["final"], [score(Request(last)), score(Request(last, raw=True))]
    for (found, notes), split in zip(filter(None, scored), ("val_ema", "val"), strict=True):
        for name in ("acc1", "loss"):
            assert found[f"val/{name}"] == pytest.approx(final[f"{split}/{name}"], rel=1e-4)
        assert any("trainer.ema" in note for note in notes) == (split == "val_ema")
    state = read(averaged / "checkpoints" / "last.pt")
    for ema, key in ((False, "model"), (True, AVERAGE)):
        found = Checkpoint.read(last, (), ema).state["model"]
        assert all(torch.equal(found[name], tensor) for name, tensor in state[key].items())
    plain = str(train("plain"))
    for refused in (lambda: Checkpoint.read(plain, (), True), lambda: read_any(plain, raw=True)):
        with pytest.raises(UserError, match="has no average of the weights"):
            refused()


def test_export_writes_the_average_unless_raw(
    averaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    state = read(averaged / "checkpoints" / "best.pt")
    for flags, key in (([], AVERAGE), (["--raw"], "model")):
        target = tmp_path / f"{key}.pth"
        monkeypatch.setattr("sys.argv", ["export.py", str(averaged), str(target), *flags])
        runpy.run_path(str(ROOT / "scripts" / "export.py"), run_name="__main__")
        written = torch.load(target, weights_only=True)["state_dict"]
        assert all(torch.equal(written[name], tensor) for name, tensor in state[key].items())
        assert ("average" in capsys.readouterr().err) == (not flags)


def test_a_skipped_step_leaves_the_average_as_it_was(train: Any) -> None:
    """A learning rate that ruins the weights: from the second step on, every loss is infinite or NaN."""
    ruin = ["model.remove_batch_norm=true", "optimizer=nesterov", "optimizer.lr=1e12", "trainer.on_nonfinite=skip"]
    run = train("skipped", *ruin, f"trainer.ema={DECAY}", "trainer.keep_every=1 steps")
    lines = metrics_lines(run)
    assert lines[-1]["train/skipped_steps"] > 0, lines
    kept = [read(path) for path in sorted((run / "checkpoints").glob("step-*.pt"))]
    skipped = [line["train/skipped_steps"] for line in lines]
    for before, after, count, now in zip(kept, kept[1:], skipped, skipped[1:], strict=False):
        same = all(torch.equal(after[AVERAGE][name], tensor) for name, tensor in before[AVERAGE].items())
        assert same == (now > count)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_average_of_half_precision_is_in_float32(precision: str, train: Any) -> None:
    state = last_checkpoint(
        train(precision, f"trainer.precision={precision}", f"trainer.ema={DECAY}", "trainer.steps=2")
    )
    assert {t.dtype for t in state[AVERAGE].values()} == {torch.float32, torch.int64}
    assert all(tensor.isfinite().all() for tensor in state[AVERAGE].values())


def test_a_damaged_average_is_refused(averaged: Path, images: Path) -> None:
    path = averaged / "checkpoints" / "last.pt"
    whole = path.read_bytes()
    (averaged / "result.json").rename(averaged / "kept.json")
    config = compose_config([*TINY, f"data.root={images}", *SHORT, f"trainer.ema={DECAY}"])
    try:
        for edit, sentence in (
            (lambda state: state.pop(AVERAGE), "it has no average of the weights"),
            (
                lambda state: state[AVERAGE].pop("conv1.0.weight"),
                "in the average of the weights, its model has missing",
            ),
        ):
            path.unlink()
            path.write_bytes(whole)
            state = read(path)
            edit(state)
            torch.save(state, path)
            with pytest.raises(UserError, match=sentence):
                experiment.run(config, averaged)
    finally:
        path.unlink()
        path.write_bytes(whole)
        (averaged / "kept.json").rename(averaged / "result.json")


def test_an_average_of_mostly_initial_weights_gets_a_warning(averaged: Path, train: Any) -> None:
    text = "trainer.ema=0.99: the initial weights will be 94 % of the average after all 6 steps"
    assert text in (train("long", "trainer.ema=0.99") / "log.txt").read_text()
    assert "the initial weights will be" in (averaged / "log.txt").read_text()
    assert json.loads((averaged / "result.json").read_text())["status"] == "finished"
