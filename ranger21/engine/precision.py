"""Number formats: which one a device gets, autocast, and the gradient scaler that fp16 needs."""

import contextlib
import logging
from dataclasses import dataclass
from typing import Any

import torch

log = logging.getLogger("ranger21")
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """`name`: bf16 or fp16 (autocast, weights in float32), fp32, fp64 (all in float64; for checks of exactness)."""

    name: str
    device: torch.device

    @property
    def weights(self) -> torch.dtype:
        return torch.float64 if self.name == "fp64" else torch.float32

    @property
    def inputs(self) -> torch.dtype:
        """What a batch is rounded to once, so that autocast need not do it again."""
        return AUTOCAST.get(self.name, self.weights)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.name in AUTOCAST:
            return torch.autocast(self.device.type, AUTOCAST[self.name])
        return contextlib.nullcontext()

    def scaler(self) -> torch.amp.GradScaler:
        """Does nothing unless the format is fp16, whose gradients would vanish; it then asks the device once a step."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def choose_precision(name: str, device: torch.device) -> Precision:
    """What `trainer.precision` means on this device. Says so where it is not what was asked for."""
    if name == "auto":
        name = "bf16" if device.type == "cuda" else "fp32"
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        log.info("%s has no bf16: training in fp16 with a gradient scaler.", torch.cuda.get_device_name(device))
        name = "fp16"
    return Precision(name, device)
