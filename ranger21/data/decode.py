"""Decode images to 8-bit RGB: most JPEGs with libjpeg-turbo, everything else with Pillow.

Any input gives an image or a UserError. Images that are too large are refused by their header, before memory is
allocated (`ranger21.data.safe_open`).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from simplejpeg import decode_jpeg
from torch import Tensor

from ranger21.data.safe_open import jpeg_frame, opened, require_bounds
from ranger21.system.errors import UserError
from ranger21.system.wording import reason


class Encoded(NamedTuple):
    """An image as stored.

    Attributes:
        data: Content of an image file, or raw RGB pixels row by row; uint8, one-dimensional.
        name: Name in messages.
        remedy: What to do if the image cannot be read, for messages.
        shape: (height, width) if `data` is raw pixels, else None.
    """

    data: np.ndarray
    name: str
    remedy: str
    shape: tuple[int, int] | None = None

    def error(self, reason: object) -> UserError:
        """Return the error for an image that cannot be read."""
        return UserError(f"The image {self.name} cannot be read ({reason}): {self.remedy}.")


def to_tensor(image: Encoded) -> Tensor:
    """Return the image as uint8 (3, height, width), in channels-last memory order.

    Raises:
        UserError: If the image cannot be decoded; the message names it.
    """
    if image.shape:
        return torch.from_numpy(_pixels(image)).permute(2, 0, 1)
    frame = jpeg_frame(image.data)
    if frame and frame.components in (1, 3) and frame.bits == 8 and frame.width * frame.height > 0:
        with _told(image):
            require_bounds(frame.width, frame.height, frame.scans)
        try:
            return torch.from_numpy(decode_jpeg(image.data)).permute(2, 0, 1)
        except ValueError:
            pass  # Pillow can decode it, or gives a better reason
    return torch.from_numpy(np.array(to_picture(image))).permute(2, 0, 1)


def to_picture(image: Encoded) -> Image.Image:
    """Return the image as a Pillow image in RGB.

    Raises:
        UserError: If the image cannot be decoded; the message names it.
    """
    if image.shape:
        return Image.fromarray(_pixels(image))
    with _told(image), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about large sizes and metadata
        with opened(image.data) as picture:
            return rgb(picture)


def rgb(picture: Image.Image) -> Image.Image:
    """Convert to 8-bit RGB. Transparency is dropped, and 16-bit values keep their upper 8 bits."""
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _pixels(image: Encoded) -> np.ndarray:
    assert image.shape is not None
    return image.data.reshape(*image.shape, 3)


@contextmanager
def _told(image: Encoded) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise image.error(reason(error)) from error
