"""From an image's bytes to its pixels, RGB of 8 bits: by libjpeg-turbo where it can, by Pillow for the rest.

Whatever the bytes are, they end in a picture or in a UserError; what is too large is refused by its header, before any
memory is asked for (`ranger21.data.safe_open`).
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
    """An image as it is stored.

    Attributes:
        data: uint8 (bytes,), a JPEG or another file that Pillow reads, or the pixels themselves, row by row.
        name: that a person finds it by.
        remedy: what to do if it cannot be read.
        shape: (height, width) if `data` is the pixels.
    """

    data: np.ndarray
    name: str
    remedy: str
    shape: tuple[int, int] | None = None

    def error(self, reason: object) -> UserError:
        return UserError(f"The image {self.name} cannot be read ({reason}): {self.remedy}.")


def to_tensor(image: Encoded) -> Tensor:
    """uint8 (3, height, width), stored pixel by pixel. Raises a UserError that names the image."""
    if image.shape:
        return torch.from_numpy(_pixels(image)).permute(2, 0, 1)
    frame = jpeg_frame(image.data)
    if frame and frame.components in (1, 3) and frame.bits == 8 and frame.width * frame.height > 0:
        with _told(image):
            require_bounds(frame.width, frame.height, frame.scans)
        try:
            return torch.from_numpy(decode_jpeg(image.data)).permute(2, 0, 1)
        except ValueError:
            pass  # Pillow knows better, or says why
    return torch.from_numpy(np.array(to_picture(image))).permute(2, 0, 1)


def to_picture(image: Encoded) -> Image.Image:
    """The same as a picture of Pillow's, in RGB. Raises a UserError that names the image."""
    if image.shape:
        return Image.fromarray(_pixels(image))
    with _told(image), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large sizes and odd metadata
        with opened(image.data) as picture:
            return rgb(picture)


def rgb(picture: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue: transparency is left out, sixteen bits lose the lower eight."""
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
