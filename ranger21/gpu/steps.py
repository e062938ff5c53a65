"""The cost of an optimizer step, counted on a fake device: launches, and passes over the parameters."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ranger21.config.model import ModelConfig
from ranger21.gpu.fused import WEIGH
from ranger21.gpu.traffic import Traffic, pretended
from ranger21.models.build import build_model

MODELS = ("resnet50", "vit_base_patch16_224", "nf_resnet50")
MERGE_EVERY = 5  # steps between merges of Ranger21's lookahead


class StepCost(NamedTuple):
    """The cost of a step: the most launches, and the mean bytes over steps with and without a lookahead merge."""

    launches: int
    bytes: float


def shapes(model: str) -> list[torch.Size]:
    """Return the shapes of a model's parameters."""
    with torch.device("meta"):
        config = ModelConfig(model, remove_batch_norm=False, kwargs={}, init_from=None)
        return [param.shape for param in build_model(config, 1000, 3).parameters()]


def parameters(model: Iterable[torch.Size], device: str) -> list[Tensor]:
    """Return parameters of these shapes with gradients, without allocating memory."""
    found: list[Tensor] = [nn.Parameter(torch.empty(shape, device=device)) for shape in model]
    for param in found:
        param.grad = torch.empty_like(param)
    return found


def size(model: Iterable[torch.Size]) -> int:
    """Return the bytes of a model's parameters in float32."""
    return 4 * sum(shape.numel() for shape in model)


def cost(
    make: Callable[[list[Tensor]], Optimizer],
    model: Iterable[torch.Size],
    device: str = "meta",
) -> StepCost:
    """Return the cost of a step.

    Args:
        make: returns the optimizer for some parameters.
        model: the parameters' shapes.
        device: "meta", or a fake device such as "cuda" for optimizers that check the device type.
    """
    with pretended(device):
        optimizer = make(parameters(model, device))
        optimizer.step()
        usual = _step(optimizer)
        for state in optimizer.state.values():
            if isinstance(state["step"], int):
                state["step"] = MERGE_EVERY - 1
        merging = _step(optimizer)
    share = 1 / MERGE_EVERY
    return StepCost(max(usual.launches, merging.launches), (1 - share) * usual.bytes + share * merging.bytes)


def _step(optimizer: Optimizer) -> Traffic:
    with Traffic(WEIGH) as traffic:
        optimizer.step()
    return traffic
