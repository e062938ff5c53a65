"""`trainer.grad_checkpointing` computes activations again, and changes no bit of a run, batch norms included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.training import TINY, assert_same_state, last_checkpoint, metrics_without_speed
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from ranger21.config.compose import compose_config
from ranger21.run import experiment
from ranger21.system.errors import UserError

STEPS = ["trainer.steps=3", "trainer.log_every_steps=1", "optimizer=adamw", "trainer.accumulate=2"]
VIT = ["model=vit_tiny_patch16_224"]
VIT += ["+model.kwargs={depth:2,embed_dim:16,num_heads:2,img_size:32,drop_rate:0.1,drop_path_rate:0.3}"]
MODELS = {"batch norm and dropout": [], "dropout and drop path": VIT}


def train(overrides: list[str], directory: Path) -> int:
    """Train in this process; return how often a layer ran in training mode."""
    calls = 0

    def count(module: nn.Module, *_: Any) -> None:
        nonlocal calls
        calls += module.training

    hook = register_module_forward_hook(count)
    try:
        assert experiment.run(compose_config(overrides), directory) == 0
    finally:
        hook.remove()
    return calls


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_run_is_the_same_bit_for_bit(model: list[str], precision: str, images: Path, tmp_path: Path) -> None:
    tiny = [word for word in TINY if not model or "model" not in word]
    overrides = [*tiny, f"data.root={images}", *STEPS, *model, f"trainer.precision={precision}"]
    plain = train(overrides, tmp_path / "plain")
    again = train([*overrides, "trainer.grad_checkpointing=true"], tmp_path / "again")
    assert again > plain * 1.3
    assert_same_state(last_checkpoint(tmp_path / "plain"), last_checkpoint(tmp_path / "again"))
    assert metrics_without_speed(tmp_path / "plain") == metrics_without_speed(tmp_path / "again")


def test_a_model_without_gradient_checkpointing_is_refused(images: Path, tmp_path: Path) -> None:
    tiny = [word for word in TINY if "model" not in word]
    config = compose_config([*tiny, f"data.root={images}", "model=vgg11", "trainer.grad_checkpointing=true"])
    with pytest.raises(UserError, match="model=vgg11, for which timm has no gradient checkpointing"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
