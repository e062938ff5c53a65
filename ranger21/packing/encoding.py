"""The content of a pack's members: images decoded, resized and stored as JPEG or as raw pixels."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.decode import Encoded, to_tensor
from ranger21.data.pack import PackRecipe
from ranger21.data.transforms.resizing import resized_tensor


class PackedImage(NamedTuple):
    """The content of a member.

    Attributes:
        content: The file.
        begin: Position in it at which later reads begin (the pixels of an array).
        shape: Height and width of raw pixels, (0, 0) for a JPEG.
    """

    content: bytes
    begin: int
    shape: tuple[int, int]


def pixels_of(image: Encoded, config: ImageFolderConfig) -> np.ndarray:
    """Return a resized image, uint8 (height, width, 3); raise a UserError if it cannot be decoded."""
    return resized_tensor(to_tensor(image), config).permute(1, 2, 0).contiguous().numpy()


def encoded(pixels: np.ndarray, recipe: PackRecipe) -> PackedImage:
    """Return the content of a member from resized pixels."""
    buffer = io.BytesIO()
    if recipe.format == "raw":
        np.save(buffer, pixels)
        height, width = pixels.shape[:2]
        return PackedImage(buffer.getvalue(), buffer.tell() - pixels.nbytes, (height, width))
    Image.fromarray(pixels).save(buffer, "JPEG", quality=recipe.quality, subsampling=recipe.subsampling, optimize=True)
    return PackedImage(buffer.getvalue(), 0, (0, 0))


def packed(image: Encoded, config: ImageFolderConfig, recipe: PackRecipe) -> PackedImage:
    """Return the content of a member from an image file; raise a UserError if it cannot be decoded."""
    return encoded(pixels_of(image, config), recipe)
