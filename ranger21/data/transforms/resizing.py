"""Resizing of whole images, with Pillow and of tensors."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as F

from ranger21.data.datasets.image_folder import ImageFolderConfig


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
