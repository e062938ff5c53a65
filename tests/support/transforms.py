"""Configurations of the augmentation, and images as each front end makes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ranger21.config import ImageFolderConfig
from ranger21.data.decode import Encoded
from ranger21.data.on_device import ToInput
from ranger21.data.transforms import FRONT_ENDS
from ranger21.data.transforms.base import NUMBERS

PLAIN = ImageFolderConfig(
    name="imagenet", root=None, batch_size=16, workers=0, timeout=300, eval_batch_size=8, pack=None, transforms="fast",
    classes=None, fraction=1.0, on_bad_image="error", resize=36, resize_mode="squash", crop=32, flip=0.0,
    brightness=0.0, contrast=0.0, saturation=0.0,
)  # fmt: skip
FULL = replace(PLAIN, flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4)
BOTH_ENDS = pytest.mark.parametrize("end", ["pil", "fast"])
AS_BYTES = ToInput([0.0] * 3, [1 / 255] * 3)  # floats from 0 to 255


def numbers_of(seed: int) -> np.ndarray:
    """Return the random numbers that augment one image."""
    return np.random.default_rng(seed).random(NUMBERS)


def transformed(
    end: str, config: ImageFolderConfig, image: Encoded, numbers: np.ndarray, rows: bool = True
) -> np.ndarray:
    """Return a training image (channels, height, width) from 0 to 255, after the CPU's and the device's part.

    `rows` says whether the front end `fast` leaves a part to the device.
    """
    transform = FRONT_ENDS[end][0](config)
    pixels, left = transform(image, numbers), transform.left_to_do(numbers[None])
    assert (left is None) == (end == "pil" or not rows) and pixels.dtype == torch.uint8
    return pixels.numpy() if left is None else AS_BYTES(pixels[None], torch.from_numpy(left))[0].numpy()
