"""Check of the augmentation on the device against that on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ranger21.config import ImageFolderConfig
from ranger21.data.transforms import FRONT_ENDS
from ranger21.data.transforms.base import NUMBERS
from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.machine.device import device_of, seconds

IMAGES = 16
SHARE = 1e-4  # fraction of values that may differ by a step of 1/255
MOST = 3.5  # steps of 1/255; three consecutive operations round


def against_cpu(machine: Machine) -> CheckResult:
    """Augment the same random pixels on the device and on the CPU, and compare them in steps of 1/255."""
    here, config = device_of(machine), machine.config.data
    numbers = np.random.default_rng(0).random((IMAGES, NUMBERS))
    to_input: Any = config.view().to_input.float()
    row = None
    if isinstance(config, ImageFolderConfig):
        row = FRONT_ENDS["fast"][0](config).at(0).left_to_do(numbers)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, *config.shape), dtype=torch.uint8, generator=generator)
    rows = None if row is None else torch.from_numpy(row)
    expected = to_input(images, rows)
    step = to_input.scale.clone()  # a step of 1/255, in the units of the model's input
    to_input.to(here)
    there = images.to(here), None if rows is None else rows.to(here)
    off = ((to_input(*there).cpu().float() - expected) / step).abs()
    taken = min(seconds(lambda: to_input(*there), here, 3))
    largest, share = float(torch.nan_to_num(off, nan=float("inf")).max()), float((off > 0.5).float().mean())
    rate = IMAGES / taken
    seen = f"{share:.2%} of the values differ by a step of 255, the largest by {largest:.2g}; {rate:,.0f} images/s"
    figures = {"share": share, "largest": largest, "images_per_s": rate}
    if not largest <= MOST:
        return CheckResult(seen, FAILED, "the device's augmentation differs from the CPU's: report this", figures)
    if share > SHARE:
        return CheckResult(seen, WARNING, "more than rounding explains: report this with machine.json", figures)
    return CheckResult(seen, numbers=figures)
