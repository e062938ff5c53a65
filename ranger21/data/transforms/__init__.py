"""The transforms of images, from a stored image to uint8 pixels.

A transform converts a stored image and NUMBERS random numbers from U[0, 1) to uint8 pixels (channels, height, width).
`left_to_do` returns the parameters of the operations that are left to the device (`ranger21.data.on_device`). There are
two implementations with the same results for the same numbers: `pil`, the reference, uses torchvision's operations on
Pillow images; `fast` uses tensors, and leaves flip and color jitter of the paper's recipe to the device.
"""

from collections.abc import Callable
from dataclasses import replace

from ranger21.data.datasets.augmentation import PAPER
from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.transforms.base import Transform
from ranger21.data.transforms.evaluation import FastEval, PilEval
from ranger21.data.transforms.paper import FastTrain, PilTrain
from ranger21.data.transforms.rescaled import FastRescaled, PilRescaled

Make = Callable[[ImageFolderConfig], Transform]


class Growing(Transform):
    """A transform whose crop grows with the epoch (data.crop_start). Only the transforms of `at` can be called."""

    def __init__(self, make: Make, config: ImageFolderConfig) -> None:
        self.make, self.config = make, config
        self._made: dict[int, Transform] = {}

    def at(self, epoch: int) -> Transform:
        crop = self.config.crop_at(epoch)
        if crop not in self._made:
            self._made[crop] = self.make(replace(self.config, crop=crop, crop_start=None, crop_ramp=None))
        return self._made[crop]


def _training(paper: Make, rescaled: Make) -> Make:
    def transform(config: ImageFolderConfig) -> Transform:
        make = paper if config.augment == PAPER else rescaled
        return make(config) if config.crop_start is None else Growing(make, config)

    return transform


# What makes the transforms of training and validation images, by data.transforms.
FRONT_ENDS: dict[str, tuple[Make, Make]] = {
    "pil": (_training(PilTrain, PilRescaled), PilEval),
    "fast": (_training(FastTrain, FastRescaled), FastEval),
}
