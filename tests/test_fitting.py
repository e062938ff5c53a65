"""Checkpoints whose state does not fit the run are refused with one message, before anything is changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import TINY
from torch import nn

from ranger21.config import Config
from ranger21.config.compose import compose_config
from ranger21.records import checkpoint
from ranger21.records.checkpoint_file import State, read
from ranger21.run import experiment
from ranger21.run.fitting import require_fits
from ranger21.run.optimizers import build_optimizer
from ranger21.system.errors import UserError

Edit = Callable[[State], Any]


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path, State]:
    """A run that has taken its last step but has no result.json, with its checkpoint."""
    config = compose_config([*TINY, f"data.root={images}", "optimizer=adamw", "optimizer.lookahead_k=3"])
    config = replace(config, trainer=replace(config.trainer, steps=4))
    directory = tmp_path_factory.mktemp("runs") / "run"
    assert experiment.run(config, directory) == 0
    (directory / "result.json").unlink()
    return config, directory, read(directory / "checkpoints" / "last.pt")


def put(*keys: Any, value: Any = ...) -> Edit:
    """Return a function that replaces a value of a state, or deletes it (`...`)."""

    def edit(state: State) -> None:
        part: Any = state
        for key in keys[:-1]:
            part = part[key]
        if value is ...:
            del part[keys[-1]]
        else:
            part[keys[-1]] = value

    return edit


WEIGHT, FIRST = ("model", "conv1.0.weight"), ("optimizer", "state", 0)
GROUP = ("optimizer", "param_groups", 0)
WRONG: dict[str, tuple[Edit, str]] = {
    "a list": (lambda state: [1, 2], "is not a checkpoint of a run (torch.save wrote a list)"),
    "a tensor": (lambda state: torch.zeros(3), "is not a checkpoint of a run (torch.save wrote a Tensor)"),
    "nothing": (lambda state: state.clear(), "because it lacks model, optimizer, scaler and 8 more"),
    "no model": (put("model"), "because it lacks model"),
    "no optimizer": (put("optimizer"), "because it lacks optimizer"),
    "no progress": (put("progress"), "because it lacks progress"),
    "no meter": (put("meter"), "because it lacks meter"),
    "no configuration": (put("config"), "because it lacks config"),
    "text for a configuration": (put("config", value="seed: 0"), "a configuration that this version cannot read"),
    "a format of text": (put("format", value="2"), "the format is 2, and this version"),
    "a model of text": (put("model", value="weights"), "its model is a str"),
    "a model without a tensor": (put(*WEIGHT), "its model has missing or unexpected tensors (conv1.0.weight)"),
    "a model with one more": (put("model", "more", value=torch.zeros(1)), "missing or unexpected tensors (more)"),
    "a number for a weight": (put(*WEIGHT, value=1.0), "its model's conv1.0.weight is a float, not a tensor"),
    "another size": (put(*WEIGHT, value=torch.zeros(3, 3)), "its model's conv1.0.weight is (3, 3) in torch.float32"),
    "another type": (put(*WEIGHT, value=torch.zeros(8, 3, 3, 3, dtype=torch.int64)), "3) in torch.int64, not"),
    "weights of NaN": (put(*WEIGHT, value=torch.full((6, 3, 3, 3), math.nan)), "has values that are not finite"),
    "an optimizer of text": (put("optimizer", value="adamw"), "its optimizer has missing or unexpected entries"),
    "an optimizer without groups": (put("optimizer", "param_groups"), "its optimizer has missing or unexpected"),
    "groups of text": (put("optimizer", "param_groups", value="groups"), "its optimizer's parameter groups are"),
    "a group too few": (put("optimizer", "param_groups", 1), "its optimizer's parameter groups are not those"),
    "a group of other tensors": (put(*GROUP, "params", value=[0]), "its optimizer's parameter groups are not those"),
    "a group of text": (put(*GROUP, value="group"), "its optimizer's parameter groups are not those"),
    "a rate of text": (put(*GROUP, "lr", value="fast"), "its optimizer's lr is 'fast'"),
    "another decay": (put(*GROUP, "weight_decay", value=0.5), "its optimizer's weight_decay is 0.5, not 0.0001"),
    "other betas": (put(*GROUP, "betas", value=(0.5, 0.5)), "betas is [0.5, 0.5], not [0.9, 0.999]"),
    "no betas": (put(*GROUP, "betas"), "its optimizer fails when it takes a step (KeyError: 'betas')"),
    "a tensor among betas": (put(*GROUP, "betas", value=[0.9, torch.zeros(0)]), "cannot be compared with this run's"),
    "a number beyond all": (put("meter", value=[0.0, 0.0, 10**400]), "cannot be compared with this run's"),
    "a switch of text": (put(*GROUP, "fused", value="yes"), "its optimizer's fused is 'yes'"),
    "no state": (put("optimizer", "state", value={}), "its optimizer state does not match"),
    "a state of text": (put("optimizer", "state", value="state"), "its optimizer state does not match"),
    "a state of another tensor": (put("optimizer", "state", 999, value={}), "state does not match the parameters"),
    "no moment": (put(*FIRST, "exp_avg"), "its optimizer state of tensor 0 has missing"),
    "another optimizer's": (put(*FIRST, value={"momentum_buffer": torch.zeros(1)}), "state of tensor 0 has missing"),
    "a moment of another size": (put(*FIRST, "exp_avg", value=torch.zeros(2)), "exp_avg of tensor 0 is (2,) in"),
    "a moment of text": (put(*FIRST, "exp_avg", value="x"), "its optimizer's exp_avg of tensor 0 is a str"),
    "a count of text": (put(*FIRST, "lookahead_step", value="x"), "its optimizer's lookahead_step of tensor 0 is 'x'"),
    "a scaler of text": (put("scaler", value="x"), "its gradient scaler has missing or unexpected"),
    "a scaler of fp16": (put("scaler", value={"scale": 65536.0}), "its gradient scaler has missing or unexpected"),
    "another precision": (put("precision", value="fp64"), "was trained in fp64, and would continue in fp32"),
    "progress of text": (put("progress", value="far"), "its progress has missing or unexpected"),
    "progress with more": (put("progress", "more", value=1), "its progress has missing or unexpected"),
    "step 999": (put("progress", "step", value=999), "its step is 999, but the run has steps 1 to 4"),
    "step 0": (put("progress", "step", value=0), "its step is 0, but the run has steps 1 to 4"),
    "a step of text": (put("progress", "step", value="4"), "its step is '4', but the run has"),
    "half a step": (put("progress", "step", value=3.5), "its step is 3.5, but the run has"),
    "a step that is true": (put("progress", "step", value=True), "its step is True, but the run has"),
    "logged later": (put("progress", "logged_step", value=9), "its logged_step is 9, but its step is 4"),
    "no time": (put("progress", "seconds", value=math.nan), "its time is nan seconds"),
    "a best of text": (put("progress", "best", value="x"), "its best validation are not all numbers"),
    "a best without its value": (put("progress", "best", "val/acc1"), "its best validation are not all numbers"),
    "sums of text": (put("meter", value=["x", 1.0, 1.0]), "its sums of the loss are not three numbers"),
    "two counts": (put("nonfinite", value=[0, 0]), "its counts of skipped steps are not three numbers"),
    "metrics of a negative size": (put("metrics_size", value=-1), "its size of metrics.jsonl"),
    "numbers for images": (put("unreadable", value=[1]), "its names of unreadable images"),
    "data of text": (put("data", value="x"), "it does not have 10 classes"),
    "other classes": (put("data", "names", value=["cat", "dog"]), "was started with different classes"),
    "other classes by number": (put("data", value={"classes": 4}), "it does not have 10 classes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_state_that_does_not_fit_the_run_is_refused(
    run: tuple[Config, Path, State], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PAUSES", (0.0, 0.0, 0.0))
    config, directory, state = run
    (directory / "result.json").unlink(missing_ok=True)  # left by a state that was accepted
    edit, words = WRONG[kind]
    wrong = copy.deepcopy(state)
    wrong = edit(wrong) if kind in ("a list", "a tensor") else edit(wrong) or wrong
    last = directory / "checkpoints" / "last.pt"
    last.unlink()  # keeps best.pt, a hard link to it
    torch.save(wrong, last)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file() and path.suffix != ".txt"}
    with pytest.raises(UserError) as caught:
        experiment.run(config, directory)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in before}


OPTIMIZERS = [
    "ranger21", "ranger21_official", "ranger", "adamw", "adam", "adagrad", "momentum", "nesterov", "gd", "radam",
    "rmsprop", "adadelta", "sgdw", "lars", "lamb", "lion", "adamw optimizer.lookahead_k=5",
]  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_state_fits_only_that_optimizer(run: tuple[Config, Path, State], name: str) -> None:
    """The check changes neither the state nor the model."""
    make, other = (
        partial(_make, compose_config([*TINY, "data.root=/data", *f"optimizer={one}".split()]))
        for one in (name, "adamw" if name == "lion" else "lion")
    )
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    optimizer = make(model.parameters())
    for _ in range(7):  # beyond lookahead's first merge
        for param in model.parameters():
            param.grad = torch.rand_like(param)
        optimizer.step()
    saved = run[2] | {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    before = copy.deepcopy(saved)
    require_fits(saved, Path("last.pt"), model, make, {}, 4, 10)
    assert str(saved) == str(before)
    with pytest.raises(UserError, match="its optimizer"):
        require_fits(saved, Path("last.pt"), model, other, {}, 4, 10)


def _make(config: Config, params: Any) -> torch.optim.Optimizer:
    return build_optimizer(params=params, **vars(config.optimizer))
