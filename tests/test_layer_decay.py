"""`trainer.layer_decay`: learning rates by layer, which compose with weight decay, schedules and every optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import TINY, metrics_lines
from timm.optim import param_groups_layer_decay

from ranger21.config.compose import compose_config
from ranger21.models.build import build_model
from ranger21.models.training import layer_scales
from ranger21.optim.groups import decays
from ranger21.records.checkpoint_file import read
from ranger21.run import experiment
from ranger21.run.optimizers import build_optimizer
from ranger21.system.errors import UserError

DECAY = 0.5
DISTANCES = {"blocks.0.": 2, "blocks.1.": 1, "norm.": 1, "head.": 0}  # of the small ViT's layers from its head
SMALL_VIT = ["model=vit_tiny_patch16_224", "+model.kwargs={depth:2,embed_dim:16,num_heads:2,img_size:32}"]
VIT = [word for word in TINY if "model" not in word] + SMALL_VIT
RUN = ["trainer.steps=2", "trainer.log_every_steps=1", "trainer.keep_every=1 steps", "trainer.eval_every_steps=2"]


def rates(optimizer: torch.optim.Optimizer) -> dict[int, tuple[float, float]]:
    """Return the learning rate and the weight decay of each parameter, by its id."""
    return {id(p): (g["initial_lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}


@pytest.mark.parametrize("optimizer", ["adamw", "ranger21", "chain", "muon", "lion", "nesterov"])
def test_each_parameter_has_the_rate_of_its_layer_and_the_weight_decay_of_its_kind(optimizer: str) -> None:
    config = compose_config([*VIT, f"optimizer={optimizer}", "optimizer.weight_decay=0.1"])
    model = build_model(config.model, 10, 3)
    scales = layer_scales(model, DECAY, "vit")
    built = build_optimizer(params=model.parameters(), **vars(config.optimizer), layer_scales=scales)
    found, lr = rates(built), config.optimizer.lr
    timms = {id(p): g["lr_scale"] for g in param_groups_layer_decay(model, layer_decay=DECAY) for p in g["params"]}
    for name, param in model.named_parameters():
        distance = next((d for prefix, d in DISTANCES.items() if name.startswith(prefix)), 3)
        assert found[id(param)][0] == pytest.approx(lr * DECAY**distance), name
        assert found[id(param)] == (lr * timms[id(param)], 0.1 if decays(param) else 0.0)
    assert built.param_groups[0]["initial_lr"] == lr == max(rate for rate, _ in found.values())


@pytest.fixture(scope="module")
def train(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("runs")

    def run(*overrides: str) -> Path:
        directory = place / str(len(list(place.iterdir())))
        assert experiment.run(compose_config([*TINY, f"data.root={images}", *RUN, *overrides]), directory) == 0
        return directory

    return run


def test_a_step_of_gradient_descent_moves_each_layer_by_its_share(train: Any) -> None:
    """Both runs have the same gradient in the first step, and the schedule multiplies every rate."""
    plain = ["optimizer=gd", "optimizer.lr=0.1", "optimizer.weight_decay=0", "schedule=cosine", "trainer.ema=0.5"]
    plain += ["trainer.precision=fp64"]
    runs = [train(*plain), train(*plain, f"trainer.layer_decay={DECAY}")]
    model = build_model(compose_config(TINY).model, 10, 3)
    names = [name for name, _ in model.named_parameters()]
    scales = dict(zip(names, layer_scales(model, DECAY, "resnet10t"), strict=True))
    assert set(scales.values()) == {DECAY**distance for distance in range(6)}
    # with an average of 0.5, the initial weights are 2 x average - weights after the first step
    kept = [read(run / "checkpoints" / "step-00000001.pt") for run in runs]
    start = {name: 2 * kept[0]["model_ema"][name] - kept[0]["model"][name] for name in scales}
    for name, scale in scales.items():
        moved, less = (state["model"][name] - start[name] for state in kept)
        torch.testing.assert_close(less, moved * scale, rtol=1e-6, atol=1e-12, msg=name)
    assert [line["lr"] for line in metrics_lines(runs[0])] == [line["lr"] for line in metrics_lines(runs[1])]


def test_what_cannot_have_rates_by_layer_is_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used with optimizer=ranger21_official, whose weight decay needs"):
        compose_config([*TINY, "optimizer=ranger21_official", "trainer.layer_decay=0.5"])
    overrides = [*(word for word in TINY if "model" not in word), f"data.root={images}", "trainer.layer_decay=0.5"]
    config = compose_config([*overrides, "model=pit_ti_224", "+model.kwargs.img_size=32"])
    with pytest.raises(UserError, match="cannot be used with model=pit_ti_224, whose layers timm does not know: use"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
