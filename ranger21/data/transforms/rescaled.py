"""The training transforms with crops of random scale: RandomResizedCrop, a flip, and TrivialAugment or RandAugment.

All operations are torchvision's. They draw from torch's own generator, which is seeded for each image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.decode import Encoded, to_picture, to_tensor
from ranger21.data.transforms.base import Transform

BILINEAR = v2.InterpolationMode.BILINEAR


@contextmanager
def seeded(number: float) -> Iterator[None]:
    """Seed torch's generator by a number from U[0, 1), and restore the generator's state at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(number * 2**53))
        yield


def random_crop(config: ImageFolderConfig) -> v2.RandomResizedCrop:
    given = {name: value for name in ("scale", "ratio") if (value := getattr(config, name)) is not None}
    return v2.RandomResizedCrop(config.crop, **given, interpolation=v2.InterpolationMode(config.interpolation))


def distortion(config: ImageFolderConfig) -> Callable[[Image.Image], Image.Image] | None:
    """Return the operation on the flipped picture, or None. As in torchvision's recipes, it interpolates linearly."""
    if config.augment == "trivial":
        return v2.TrivialAugmentWide(interpolation=BILINEAR)
    if config.augment == "rand":
        names = {"rand_operations": "num_ops", "rand_magnitude": "magnitude"}
        given: dict[str, Any] = {
            theirs: value for own, theirs in names.items() if (value := getattr(config, own)) is not None
        }
        return v2.RandAugment(**given, interpolation=BILINEAR)
    return None


class PilRescaled(Transform):
    """Random crop resized to `data.crop`, random flip, and TrivialAugment or RandAugment, with Pillow.

    The first random number seeds torch's generator for all operations but the flip, which has the third, as in the
    paper's recipe.
    """

    def __init__(self, config: ImageFolderConfig) -> None:
        self.flip, self.crop, self.distort = config.flip, random_crop(config), distortion(config)

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        picture = to_picture(image)
        with seeded(numbers[0]):
            picture = self.crop(picture)
            if numbers[2] < self.flip:
                picture = F.horizontal_flip(picture)
            return F.pil_to_tensor(self.distort(picture) if self.distort else picture)


class FastRescaled(PilRescaled):
    """The same on tensors, except TrivialAugment and RandAugment, which are faster with Pillow."""

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        pixels = to_tensor(image)
        with seeded(numbers[0]):
            pixels = self.cropped(pixels)
            if numbers[2] < self.flip:
                pixels = F.horizontal_flip(pixels)
            if self.distort is None:
                return pixels
            picture = self.distort(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)

    def cropped(self, pixels: Tensor) -> Tensor:
        """Return the crop, resized. A contiguous copy of the crop is resized twice as fast as a view of the image."""
        crop = F.crop(pixels, **self.crop.make_params([pixels]))[None].contiguous(memory_format=torch.channels_last)
        mode = self.crop.interpolation.value
        return torch.nn.functional.interpolate(crop, self.crop.size, mode=mode, antialias=True)[0]
