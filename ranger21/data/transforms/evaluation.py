"""The transforms of validation images: resize and center crop."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torchvision.transforms import functional as F

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.decode import Encoded, to_picture, to_tensor
from ranger21.data.transforms.base import Transform
from ranger21.data.transforms.resizing import resized_picture, resized_tensor


class PilEval(Transform):
    """Resize and center crop, with Pillow."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        resize, crop = self.config.eval_sizes
        picture = resized_picture(to_picture(image), self.config, resize)
        return F.pil_to_tensor(F.center_crop(picture, [crop, crop]))


class FastEval(Transform):
    """Resize and center crop of tensors."""

    def __init__(self, config: ImageFolderConfig) -> None:
        self.config = config

    def __call__(self, image: Encoded, numbers: np.ndarray) -> Tensor:
        resize, crop = self.config.eval_sizes
        return F.center_crop(resized_tensor(to_tensor(image), self.config, resize), [crop, crop])
