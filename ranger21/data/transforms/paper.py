"""The training transforms of the paper's recipe (section 4)."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torchvision.transforms import functional as F

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.decode import Encoded, to_picture, to_tensor
from ranger21.data.transforms.base import Transform
from ranger21.data.transforms.resizing import resized_picture, resized_tensor

JITTERS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)


def corner(config: ImageFolderConfig, width: int, height: int, numbers: np.ndarray) -> tuple[int, int]:
    """Return left and top of the random crop of a resized image."""
    return int(numbers[0] * (width - config.crop + 1)), int(numbers[1] * (height - config.crop + 1))


def flips_and_jitters(config: ImageFolderConfig, numbers: np.ndarray) -> np.ndarray:
    """Return the parameters of flip and color jitter from random numbers (n, NUMBERS).

    The result is float32 (n, 7): 1 to flip, else 0; the factors of brightness, contrast and saturation; and the indices
    of these three operations in their order of application.
    """
    strength = np.array(strengths(config))
    factors = 1 + strength * (2 * numbers[:, 3:6] - 1)
    return np.hstack([numbers[:, 2:3] < config.flip, factors, numbers[:, 6:9].argsort(axis=1)]).astype(np.float32)


def strengths(config: ImageFolderConfig) -> tuple[float, float, float]:
    return config.brightness, config.contrast, config.saturation


class PilTrain(Transform):
    """Resize, random crop, random flip, and color jitter in random order, with Pillow."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        config = self.config
        picture = resized_picture(to_picture(image), config)
        left, top = corner(config, *picture.size, numbers)
        picture = F.crop(picture, top, left, config.crop, config.crop)
        flip, *rest = flips_and_jitters(config, numbers[None])[0].tolist()
        if flip:
            picture = F.hflip(picture)
        for which in map(int, rest[3:]):
            if strengths(config)[which]:
                picture = JITTERS[which](picture, rest[which])
        return F.pil_to_tensor(picture)


class FastTrain(Transform):
    """Resize and random crop of tensors. Flip and color jitter are left to the device."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        pixels, crop = resized_tensor(to_tensor(image), self.config), self.config.crop
        left, top = corner(self.config, pixels.shape[2], pixels.shape[1], numbers)
        return pixels[:, top : top + crop, left : left + crop]

    def left_to_do(self, numbers: np.ndarray) -> np.ndarray | None:
        return flips_and_jitters(self.config, numbers)
