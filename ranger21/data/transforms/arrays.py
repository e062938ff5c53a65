"""The transforms of small images in memory: uint8 arrays (height, width), or (height, width, 3) in color."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ranger21.data.datasets.array import ArrayConfig
from ranger21.data.transforms.base import Transform


class ShiftAndFlip(Transform):
    """A random crop of the padded image and a random flip, for uint8 arrays (height, width) or (height, width, 3)."""

    def __init__(self, config: ArrayConfig) -> None:
        self.config = config

    def __call__(self, image: np.ndarray, numbers: np.ndarray) -> Tensor:
        pad = self.config.padding
        height, width = image.shape[:2]
        top, left = (int(number * (2 * pad + 1)) for number in numbers[:2])
        around = ((pad, pad), (pad, pad), (0, 0))[: image.ndim]
        image = np.pad(image, around)[top : top + height, left : left + width]
        if numbers[2] < self.config.flip:
            image = image[:, ::-1]
        return _channels_first(image)


class AsIs(Transform):
    """A small image as a tensor."""

    def __call__(self, image: np.ndarray, numbers: np.ndarray) -> Tensor:
        return _channels_first(image)


def _channels_first(image: np.ndarray) -> Tensor:
    """Return a tensor (1, height, width), or (3, height, width) of an image in color."""
    return torch.from_numpy((image[None] if image.ndim == 2 else image.transpose(2, 0, 1)).copy())
