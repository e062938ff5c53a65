"""A model that cannot process the run's images is refused before a run directory exists; one that can never is."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.training import TINY
from torch import Tensor, nn

from ranger21.config.compose import compose_config
from ranger21.run import experiment, trial
from ranger21.run.trial import require_it_runs
from ranger21.system.errors import UserError

PLAIN = ["logger=none", "trainer.device=cpu"]


@pytest.mark.parametrize(
    ("overrides", "ranks", "sentence"),
    [
        (["model=vit_tiny_patch16_224"], 1, r"=256\), because .* for 224: .*data.crop=224 .*kwargs.img_size=256"),
        (["model=swin_tiny_patch4_window7_224"], 1, "because it is made for 224: choose data.crop=224"),
        (["model=vit_tiny_patch16_224", "+model.kwargs={img_size:96}"], 1, "made for 96: choose data.crop=96"),
        (["model=vgg11", "data.crop=16"], 1, r"images of 16 pixels \(data.crop=16\): choose another data.crop"),
        (["model=resnet10t", "+model.kwargs={features_only:true}"], 1, "gives a list for 2 images .*features_only"),
        (["model=resnet10t", "data.crop=32", "data.batch_size=8", "trainer.accumulate=8"], 1,
         r"data.batch_size=8 ÷ \(1 ranks × trainer.accumulate=8\)\). Choose a larger data.crop, "),
        (["model=resnet10t", "data.crop=32", "data.batch_size=8", "trainer.accumulate=2"], 4, r"÷ \(4 ranks × "),
        (["experiment=fashion_mnist", "data.batch_size=8", "trainer.accumulate=8", "model=resnet18"], 1,
         r"28 pixels \(the data's size=28\): a batch norm .*Choose a larger data.batch_size or"),
        (["model=deit_tiny_distilled_patch16_224", "data.crop=96"], 1, "made for 224"),
        (["model=vit_tiny_patch16_224", "data.crop=224", "data.crop_start=160", "data.crop_ramp=[1,2]"], 1,
         r"160 pixels \(data.crop_start=160\), because it is made for 224: choose data.crop_start=224, or"),
        (["model=vit_tiny_patch16_224", "data.crop=224", "data.eval_crop=256"], 1,
         r"256 pixels \(data.eval_crop=256\), because it is made for 224: choose data.eval_crop=224, or"),
    ],
)  # fmt: skip
def test_models_that_cannot_run_are_refused(overrides: list[str], ranks: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        require_it_runs(compose_config([*PLAIN, *overrides]), ranks)


def test_the_refusal_comes_before_the_run_directory(images: Path, tmp_path: Path) -> None:
    bare = [override for override in TINY if "model" not in override]
    overrides = [*bare, f"data.root={images}", "model=vit_tiny_patch16_224"]
    with pytest.raises(UserError, match=r"images of 32 pixels .* made for 224"):
        experiment.run(compose_config(overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=resnet50"],
        ["model=resnet50_nobn", "data.crop=32", "data.batch_size=8", "trainer.accumulate=8"],
        ["model=vit_tiny_patch16_224", "+model.kwargs={img_size:256}"],
        ["model=vit_tiny_patch16_224", "+model.kwargs={dynamic_img_size:true}"],
        ["model=resnet10t", "data.crop=64", "data.batch_size=8", "trainer.accumulate=8"],
        ["experiment=fashion_mnist"],
        ["model=inception_v3"],
    ],
)
def test_models_that_can_run_are_not_refused(overrides: list[str]) -> None:
    require_it_runs(compose_config([*PLAIN, *overrides]), 1)


class NeedsNumbers(nn.Module):
    """A model that reads the values of its images, which do not exist on the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, trial.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        assert x.mean().item() == 0
        return F.dropout(self.head(x.mean((2, 3))))


def test_the_trial_uses_the_cpu_if_the_meta_device_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random state is unchanged afterwards, whatever the model draws."""
    monkeypatch.setattr(trial, "build_model", lambda config, classes, channels: NeedsNumbers())
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    require_it_runs(compose_config([*PLAIN, "model=resnet10t"]), 1)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    assert torch.empty(1).device.type == "cpu"


def test_a_trial_allocates_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model is tried only on the meta device."""
    devices: list[str] = []
    real = trial._output
    monkeypatch.setattr(trial, "_output", lambda *args: (devices.append(args[2]), real(*args))[1])
    require_it_runs(compose_config([*PLAIN, "model=resnet152", "data.crop=224"]), 1)
    assert devices == ["meta"]
