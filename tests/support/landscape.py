"""A tiny model for the tests of landscapes."""

from __future__ import annotations

import torch
from torch import nn

from ranger21.config.compose import compose_config
from ranger21.models.build import build_model
from support.training import TINY


def make_model(seed: int = 0, *overrides: str) -> nn.Module:
    """Return the tiny ResNet in evaluation mode, with batch norm statistics that differ from the initial ones."""
    torch.manual_seed(seed)
    model = build_model(compose_config([*TINY, *overrides]).model, 10, 3)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model.eval()
