"""The transforms of images, from a stored image to uint8 pixels.

A transform converts a stored image and NUMBERS random numbers from U[0, 1) to uint8 pixels (channels, height, width).
`left_to_do` returns the parameters of the operations that are left to the device (`ranger21.data.on_device`). There are
two implementations with the same results for the same numbers: `pil`, the reference, uses torchvision's operations on
Pillow images; `fast` uses tensors, and leaves flip and color jitter of the paper's recipe to the device.
"""

from collections.abc import Callable

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.transforms.base import Transform
from ranger21.data.transforms.evaluation import FastEval, PilEval
from ranger21.data.transforms.paper import FastTrain, PilTrain
from ranger21.data.transforms.rescaled import FastRescaled, PilRescaled


def pil_training(config: ImageFolderConfig) -> Transform:
    return PilTrain(config) if config.augment == "paper" else PilRescaled(config)


def fast_training(config: ImageFolderConfig) -> Transform:
    return FastTrain(config) if config.augment == "paper" else FastRescaled(config)


# The transforms of training and validation images, by data.transforms.
FRONT_ENDS: dict[str, tuple[Callable[[ImageFolderConfig], Transform], Callable[[ImageFolderConfig], Transform]]] = {
    "pil": (pil_training, PilEval),
    "fast": (fast_training, FastEval),
}
