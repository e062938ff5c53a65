"""The recipe's transforms (section 4), with every random number handed in.

A transform makes of an image, and of NUMBERS random numbers from U[0, 1), uint8 pixels (channels, height, width);
`left_to_do` says what is then still to be done to a batch on the device (`ranger21.data.on_device`). There are two
front ends, which make the same of the same numbers: `pil`, the recipe in torchvision's classic operations on Pillow's
pictures, the reference, and `fast`, on tensors, which leaves flip and jitter to the device.
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

NUMBERS = 9  # random ones that an image's transform may use
JITTERS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)


class Transform(Protocol):
    """Pixels of one image, and what is left to do to a batch of them."""

    def __call__(self, image: Any, numbers: np.ndarray) -> Tensor:
        """uint8 (channels, height, width). `numbers`: (NUMBERS,)"""

    def left_to_do(self, numbers: np.ndarray) -> np.ndarray | None:
        """A row for each image of what the device does (`flips_and_jitters`), or None. `numbers`: (n, NUMBERS)"""


class Complete:
    """What leaves nothing to the device."""

    def left_to_do(self, numbers: np.ndarray) -> np.ndarray | None:
        return None


def corner(config: ImageFolderConfig, width: int, height: int, numbers: np.ndarray) -> tuple[int, int]:
    """Left and top of the random crop of a picture that is resized already."""
    return int(numbers[0] * (width - config.crop + 1)), int(numbers[1] * (height - config.crop + 1))


def flips_and_jitters(config: ImageFolderConfig, numbers: np.ndarray) -> np.ndarray:
    """float32 (n, 7) of (n, NUMBERS): whether to flip; brightness, contrast, saturation; the order of these three."""
    strength = np.array(strengths(config))
    factors = 1 + strength * (2 * numbers[:, 3:6] - 1)
    return np.hstack([numbers[:, 2:3] < config.flip, factors, numbers[:, 6:9].argsort(axis=1)]).astype(np.float32)


def strengths(config: ImageFolderConfig) -> tuple[float, float, float]:
    return config.brightness, config.contrast, config.saturation


def resized_size(config: ImageFolderConfig, width: int, height: int) -> tuple[int, int]:
    """Height and width after the resize: exactly resize x resize (squash), or the shorter side resize."""
    if config.resize_mode == "squash":
        return config.resize, config.resize
    short, long = min(width, height), max(width, height)
    longer = int(config.resize * long / short)  # rounded down, as torchvision does
    return (config.resize, longer) if height <= width else (longer, config.resize)


def resized_picture(picture: Image.Image, config: ImageFolderConfig) -> Image.Image:
    """Bilinear with antialias, by Pillow."""
    return F.resize(picture, list(resized_size(config, *picture.size)), interpolation=F.InterpolationMode.BILINEAR)


def resized_tensor(image: Tensor, config: ImageFolderConfig) -> Tensor:
    """uint8 (3, height, width); bilinear with antialias, by torch."""
    height, width = image.shape[1:]
    size = resized_size(config, width, height)
    if size == (height, width):
        return image
    return torch.nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


class PilTrain(Complete):
    """Resize, random crop and flip; brightness, contrast, saturation by random factors in random order."""

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
    """The same resize, then the centre crop."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        picture = resized_picture(to_picture(image), self.config)
        return F.pil_to_tensor(F.center_crop(picture, [self.config.crop, self.config.crop]))


class FastTrain:
    """Resize and random crop; flip and jitter are left to the device."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        pixels, crop = resized_tensor(to_tensor(image), self.config), self.config.crop
        left, top = corner(self.config, pixels.shape[2], pixels.shape[1], numbers)
        return pixels[:, top : top + crop, left : left + crop]

    def left_to_do(self, numbers: np.ndarray) -> np.ndarray | None:
        return flips_and_jitters(self.config, numbers)


class FastEval(Complete):
    """The same resize, then the centre crop."""

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
