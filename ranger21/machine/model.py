"""Check of the configured model: whether it can be built and accepts the run's images."""

from __future__ import annotations

import torch

from ranger21.config import Config
from ranger21.machine.check import CheckResult, Machine
from ranger21.models.build import build_model, parameter_count
from ranger21.run.trial import require_it_runs

CLASSES = 1000
COPIES = 6  # largest size of a checkpoint, in multiples of the weights: the weights and Ranger21's state


def model(machine: Machine) -> CheckResult:
    """Build the model and run it once without arithmetic. Raises a UserError that says what to change if it fails."""
    config = machine.config
    require_it_runs(config, 1)
    whole = on_meta(config)
    size = sum(param.nbytes for param in whole.parameters())
    seen = f"{config.model.label}: {parameter_count(whole) / 1e6:.3g} million parameters, accepts the run's images"
    return CheckResult(seen, numbers={"parameters": parameter_count(whole), "checkpoint_bytes": COPIES * size})


def on_meta(config: Config) -> torch.nn.Module:
    """Build the model on the meta device, without memory for its weights."""
    with torch.device("meta"):
        return build_model(config.model, CLASSES, 3)
