"""Number formats: the choice for a device, autocast, and the gradient scaler of fp16."""

import contextlib
import logging
from dataclasses import dataclass
from typing import Any

import torch

log = logging.getLogger("ranger21")
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """A number format: bf16 or fp16 (autocast with float32 weights), fp32, or fp64 (everything in float64)."""

    name: str
    device: torch.device

    @property
    def weights(self) -> torch.dtype:
        return torch.float64 if self.name == "fp64" else torch.float32

    @property
    def inputs(self) -> torch.dtype:
        """The type of the model's input. It is autocast's own, so that a batch is rounded only once."""
        return AUTOCAST.get(self.name, self.weights)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.name in AUTOCAST:
            return torch.autocast(self.device.type, AUTOCAST[self.name])
        return contextlib.nullcontext()

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler, enabled for fp16 only; it then waits for the device once per step."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def choose_precision(name: str, device: torch.device) -> Precision:
    """Return the number format for `trainer.precision` on a device; log a line if it differs from the requested one."""
    if name == "auto":
        name = "bf16" if device.type == "cuda" else "fp32"
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        log.info("%s has no bf16: training in fp16 with a gradient scaler.", torch.cuda.get_device_name(device))
        name = "fp16"
    return Precision(name, device)
