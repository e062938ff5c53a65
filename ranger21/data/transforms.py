"""The transforms of the paper's recipe (section 4). All random numbers are passed in.

A transform converts a stored image and NUMBERS random numbers from U[0, 1) to uint8 pixels (channels, height, width).
`left_to_do` returns the parameters of the operations that are left to the device (`ranger21.data.on_device`). There are
two implementations with the same results for the same numbers: `pil`, the reference, uses torchvision's operations on
Pillow images; `fast` uses tensors, and leaves flip and color jitter to the device.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from ranger21.data.datasets.array import ArrayConfig
from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.decode import Encoded, to_picture, to_tensor

NUMBERS = 9  # random numbers per image
JITTERS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)


class Transform(Protocol):
    """A transform of single images on the CPU, with an optional second part for batches on the device."""

    def __call__(self, image: Any, numbers: np.ndarray) -> Tensor:
        """Return pixels, uint8 (channels, height, width), using the random numbers (NUMBERS,)."""

    def left_to_do(self, numbers: np.ndarray) -> np.ndarray | None:
        """Return the parameters of the device's operations (see `flips_and_jitters`), or None if there are none.

        Args:
            numbers: The random numbers of each image, (n, NUMBERS).
        """


class Complete:
    """Base class of transforms done entirely on the CPU."""

    def left_to_do(self, numbers: np.ndarray) -> np.ndarray | None:
        return None


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


def resized_size(config: ImageFolderConfig, width: int, height: int) -> tuple[int, int]:
    """Return height and width after resizing: a square with "squash", otherwise the shorter side is `config.resize`."""
    if config.resize_mode == "squash":
        return config.resize, config.resize
    short, long = min(width, height), max(width, height)
    longer = int(config.resize * long / short)  # rounded down, as torchvision does
    return (config.resize, longer) if height <= width else (longer, config.resize)


def resized_picture(picture: Image.Image, config: ImageFolderConfig) -> Image.Image:
    """Return a Pillow image resized with bilinear interpolation and antialiasing."""
    return F.resize(picture, list(resized_size(config, *picture.size)), interpolation=F.InterpolationMode.BILINEAR)


def resized_tensor(image: Tensor, config: ImageFolderConfig) -> Tensor:
    """Return a uint8 tensor (3, height, width) resized with bilinear interpolation and antialiasing."""
    height, width = image.shape[1:]
    size = resized_size(config, width, height)
    if size == (height, width):
        return image
    return torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


class PilTrain(Complete):
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


class PilEval(Complete):
    """Resize and center crop, with Pillow."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        picture = resized_picture(to_picture(image), self.config)
        return F.pil_to_tensor(F.center_crop(picture, [self.config.crop, self.config.crop]))


class FastTrain:
    """Resize and random crop of tensors. Flip and color jitter are left to the device."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        pixels, crop = resized_tensor(to_tensor(image), self.config), self.config.crop
        left, top = corner(self.config, pixels.shape[2], pixels.shape[1], numbers)
        return pixels[:, top : top + crop, left : left + crop]

    def left_to_do(self, numbers: np.ndarray) -> np.ndarray | None:
        return flips_and_jitters(self.config, numbers)


class FastEval(Complete):
    """Resize and center crop of tensors."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        return F.center_crop(resized_tensor(to_tensor(image), self.config), [self.config.crop] * 2)


FRONT_ENDS: dict[str, tuple[type[PilTrain] | type[FastTrain], type[PilEval] | type[FastEval]]] = {
    "pil": (PilTrain, PilEval),
    "fast": (FastTrain, FastEval),
}


class ShiftAndFlip(Complete):
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


class AsIs(Complete):
    """A small image as a tensor."""

    def __call__(self, image: np.ndarray, numbers: np.ndarray) -> Tensor:
        return _channels_first(image)


def _channels_first(image: np.ndarray) -> Tensor:
    """Return a tensor (1, height, width), or (3, height, width) of an image in color."""
    return torch.from_numpy((image[None] if image.ndim == 2 else image.transpose(2, 0, 1)).copy())
