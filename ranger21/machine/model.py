"""The configured model: whether it can be built, and takes the run's images."""

from __future__ import annotations

import torch

from ranger21.config import Config
from ranger21.machine.check import Found, Machine
from ranger21.models.build import build_model, parameter_count
from ranger21.run.trial import require_it_runs

CLASSES = 1000
COPIES = 6  # of the weights that a checkpoint has at most: themselves, and Ranger21's state


def model(machine: Machine) -> Found:
    """Build it, and run it once without arithmetic. Raises a UserError that says what to change if that fails."""
    config = machine.config
    require_it_runs(config, 1)
    whole = on_meta(config)
    size = sum(param.nbytes for param in whole.parameters())
    seen = f"{config.model.label}: {parameter_count(whole) / 1e6:.3g} million parameters, takes the run's images"
    return Found(seen, numbers={"parameters": parameter_count(whole), "checkpoint_bytes": COPIES * size})


def on_meta(config: Config) -> torch.nn.Module:
    """The model without memory for its weights."""
    with torch.device("meta"):
        return build_model(config.model, CLASSES, 3)
