"""The recipe's transforms (section 4), with every random number drawn from a generator that is handed in.

A transform takes an image and a NumPy generator and returns a `Sample`: uint8 pixels, and what is left to be done to
them on the device, a batch at a time (`ranger21.data.on_device`). There are two front ends that draw the same numbers:
`pil`, the recipe in torchvision's classic operations on Pillow's pictures, the reference, and `fast`, on tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from ranger21.config import FashionMNISTConfig, ImageFolderConfig
from ranger21.data.decode import Encoded, to_picture, to_tensor

JITTERS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)


class Sample(NamedTuple):
    """One image: uint8 (channels, height, width), and the row of its jitter (`Draw.jitter`) if that is to come."""

    pixels: Tensor
    jitter: np.ndarray | None = None


Transform = Callable[..., Sample]


@dataclass(frozen=True)
class Draw:
    """The random numbers of one training image: the crop's place, the flip, the jitter's factors and its order."""

    left: int
    top: int
    flip: bool
    factors: list[float]  # of brightness, contrast, saturation
    order: np.ndarray  # in which the three are applied

    @classmethod
    def of(cls, config: ImageFolderConfig, width: int, height: int, rng: np.random.Generator) -> Draw:
        """For a picture of width x height pixels, already resized."""
        left, top = (int(rng.integers(side - config.crop + 1)) for side in (width, height))
        flip = rng.random() < config.flip
        factors = [rng.uniform(1 - strength, 1 + strength) for strength in strengths(config)]
        return cls(left, top, bool(flip), factors, rng.permutation(len(JITTERS)))

    @property
    def jitter(self) -> np.ndarray:
        """float32 (6,): the three factors, then the order."""
        return np.array([*self.factors, *self.order], dtype=np.float32)


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


class PilTrain:
    """Resize, random crop and flip; brightness, contrast, saturation by random factors in random order."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, rng: np.random.Generator) -> Sample:
        config = self.config
        picture = resized_picture(to_picture(image), config)
        draw = Draw.of(config, *picture.size, rng)
        picture = F.crop(picture, draw.top, draw.left, config.crop, config.crop)
        if draw.flip:
            picture = F.hflip(picture)
        for which in draw.order:
            if strengths(config)[which]:
                picture = JITTERS[which](picture, draw.factors[which])
        return Sample(F.pil_to_tensor(picture))


class PilEval:
    """The same resize, then the centre crop."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, rng: np.random.Generator) -> Sample:
        picture = resized_picture(to_picture(image), self.config)
        return Sample(F.pil_to_tensor(F.center_crop(picture, [self.config.crop, self.config.crop])))


class FastTrain:
    """Resize, random crop and flip; the jitter is drawn here and done on the device."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config, self.jitters = config, any(strengths(config))

    def __call__(self, image: Encoded, rng: np.random.Generator) -> Sample:
        pixels = resized_tensor(to_tensor(image), self.config)
        draw, crop = Draw.of(self.config, pixels.shape[2], pixels.shape[1], rng), self.config.crop
        pixels = pixels[:, draw.top : draw.top + crop, draw.left : draw.left + crop]
        return Sample(pixels.flip(2) if draw.flip else pixels, draw.jitter if self.jitters else None)


class FastEval:
    """The same resize, then the centre crop."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, rng: np.random.Generator) -> Sample:
        return Sample(F.center_crop(resized_tensor(to_tensor(image), self.config), [self.config.crop] * 2))


FRONT_ENDS: dict[str, tuple[type[PilTrain] | type[FastTrain], type[PilEval] | type[FastEval]]] = {
    "pil": (PilTrain, PilEval),
    "fast": (FastTrain, FastEval),
}


class ShiftAndFlip:
    """For small grey pictures, uint8 arrays of (height, width): a random crop of the padded picture, a random flip."""

    def __init__(self, config: FashionMNISTConfig) -> None:
        self.config = config

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> Sample:
        pad = self.config.padding
        height, width = image.shape
        top, left = rng.integers(2 * pad + 1, size=2)
        image = np.pad(image, pad)[top : top + height, left : left + width]
        if rng.random() < self.config.flip:
            image = image[:, ::-1]
        return Sample(torch.from_numpy(image.copy())[None])


def as_is(image: np.ndarray, rng: np.random.Generator) -> Sample:
    """A grey picture as a tensor."""
    return Sample(torch.from_numpy(image.copy())[None])
