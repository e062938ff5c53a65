"""Resizing of whole images, with Pillow and of tensors."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from ranger21.data.datasets.image_folder import ImageFolderConfig


def resized_size(config: ImageFolderConfig, width: int, height: int, side: int | None = None) -> tuple[int, int]:
    """Return height and width after resizing: a square with "squash", otherwise the shorter side is `side`.

    `side` is `config.resize` unless given.
    """
    side = side or config.resize
    if config.resize_mode == "squash":
        return side, side
    short, long = min(width, height), max(width, height)
    longer = int(side * long / short)  # rounded down, as torchvision does
    return (side, longer) if height <= width else (longer, side)


def resized_picture(picture: Image.Image, config: ImageFolderConfig, side: int | None = None) -> Image.Image:
    """Return a Pillow image resized with antialiasing, by `config.interpolation`."""
    size = list(resized_size(config, *picture.size, side))
    return F.resize(picture, size, interpolation=F.InterpolationMode(config.interpolation))


def resized_tensor(image: Tensor, config: ImageFolderConfig, side: int | None = None) -> Tensor:
    """Return a uint8 tensor (3, height, width) resized with antialiasing, by `config.interpolation`."""
    height, width = image.shape[1:]
    size = resized_size(config, width, height, side)
    if size == (height, width):
        return image
    return torch.nn.functional.interpolate(image[None], size, mode=config.interpolation, antialias=True)[0]
