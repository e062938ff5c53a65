"""From an image's bytes to its pixels, RGB of 8 bits: by libjpeg-turbo where it can, by Pillow for the rest.

Whatever the bytes are, they end in a picture or in a UserError; headers that announce monstrous sizes are refused
before any memory is asked for.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from simplejpeg import decode_jpeg
from torch import Tensor

from ranger21.data.layout import MOST_UNEQUAL
from ranger21.errors import UserError
from ranger21.wording import reason

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)  # where Pillow, too, gives up: 179 million
NO_SIZE = (0xC4, 0xC8, 0xCC)  # markers of JPEG within C0 ... CF that begin no frame


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


def jpeg_frame(data: np.ndarray) -> tuple[int, int, int, int] | None:
    """Width, height, number of colour components and bits of each of a JPEG, by its header; None: it has none."""
    head, place = data.data, 2
    if len(head) < 4 or head[0] != 0xFF or head[1] != 0xD8:
        return None
    while place + 9 < len(head) and head[place] == 0xFF:
        marker = head[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in NO_SIZE:
            height, width = (head[place + i] << 8 | head[place + i + 1] for i in (5, 7))
            return width, height, head[place + 9], head[place + 4]
        place += 1 if marker == 0xFF else 2 + (head[place + 2] << 8 | head[place + 3])
    return None


def to_tensor(image: Encoded) -> Tensor:
    """uint8 (3, height, width), stored pixel by pixel. Raises a UserError that names the image."""
    if image.shape:
        return torch.from_numpy(_pixels(image)).permute(2, 0, 1)
    frame = jpeg_frame(image.data)
    if frame and frame[2] in (1, 3) and frame[3] == 8 and 0 < frame[0] * frame[1] <= MAX_PIXELS:
        try:
            _require_sides(image, *frame[:2])
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
        with Image.open(io.BytesIO(image.data.tobytes())) as picture:
            _require_sides(image, *picture.size)
            return rgb(picture)


def rgb(picture: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue: transparency is left out, sixteen bits lose the lower eight."""
    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def _require_sides(image: Encoded, width: int, height: int) -> None:
    if max(width, height) > MOST_UNEQUAL * min(width, height):
        raise image.error(f"it has {width} x {height} pixels")


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
        why = reason(error)
        if "cannot identify image file" in why:
            why = "it is no image" if len(image.data) else "the file is empty"
        raise image.error(why) from error
