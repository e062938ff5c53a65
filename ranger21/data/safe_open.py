"""Safe opening of images from untrusted files: few formats and bounded sizes, checked by the header. Imports no torch.

Pillow supports about forty formats, one of which starts another program (Ghostscript), and a file of a few kilobytes
can expand to gigabytes of pixels or take hours to decode.
"""

import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TILELENGTH, TILEWIDTH, TiffImageFile

# The formats in ImageNet and its variants, and those of names.EXTENSIONS. All are decoded in this process, by Pillow,
# libjpeg-turbo, zlib, libtiff and libwebp.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF")
MAX_PIXELS = 89_478_485  # Pillow's own warning limit; ImageNet's largest image reportedly has 9331 x 6530 (61 million)
MAX_BYTES = 4 * MAX_PIXELS
MAX_SCANS = (
    100  # limit for a JPEG, as in libtiff: a scan can be a few bytes, but decoding it passes over the whole image
)
MOST_UNEQUAL = 300  # ratio of the sides; resizing the shorter side of a more extreme image could need too much memory
NO_SIZE = (0xC4, 0xC8, 0xCC)  # JPEG markers within C0 ... CF that do not start a frame
MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # any JPEG marker that cannot occur within a scan
START, END, ALONE = 0xDA, 0xD9, (0x01, 0xD8)  # start of a scan, end of the image, markers without a length


class Frame(NamedTuple):
    """The header of a JPEG.

    Attributes:
        width, height: Size in pixels.
        components: Number of components per pixel.
        bits: Bits per component.
        scans: Number of scans; 1 unless the image is progressive or its components are stored separately.
    """

    width: int
    height: int
    components: int
    bits: int
    scans: int


def read_file(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the content of a file as a uint8 array.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is not regular, or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # do not block on a pipe without a writer
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("it is not a regular file")
        if state.st_size > MAX_BYTES:
            raise ValueError(f"it has {state.st_size:,} bytes, more than the limit of {MAX_BYTES:,}")
        data, got = np.empty(state.st_size, np.uint8), 0
        while got < len(data) and (more := os.readv(descriptor, [data[got:].data])):
            got += more
        return data[:got]
    finally:
        os.close(descriptor)


def jpeg_frame(data: np.ndarray) -> Frame | None:
    """Return the header of a JPEG, or None if there is none."""
    head, place = data.data, 2
    size: tuple[int, int, int, int] | None = None
    if len(head) < 4 or head[0] != 0xFF or head[1] != 0xD8:
        return None
    while place + 9 < len(head) and head[place] == 0xFF:
        marker = head[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in NO_SIZE and size is None:
            height, width = (head[place + i] << 8 | head[place + i + 1] for i in (5, 7))
            size, several = (width, height, head[place + 9], head[place + 4]), marker not in (0xC0, 0xC1)
        if marker == START:  # the first scan of a baseline JPEG is the only one if it has all components
            whole = size is not None and not several and head[place + 4] == size[2]
            return Frame(*size, scans=1 if whole else count_scans(data, place)) if size else None
        place += 1 if marker == 0xFF else 2 + (head[place + 2] << 8 | head[place + 3])
    return Frame(*size, scans=count_scans(data, 2)) if size else None


def count_scans(data: np.ndarray, place: int) -> int:
    """Count the scans from byte `place` to the end of the image, up to MAX_SCANS + 1."""
    content, scans = data.tobytes(), 0
    while scans <= MAX_SCANS and (found := MARKER.search(content, place)) and found[1][0] != END:
        scans += found[1][0] == START
        place = found.end() + (
            0 if found[1][0] in ALONE else int.from_bytes(content[found.end() : found.end() + 2], "big")
        )
    return scans


@contextmanager
def opened(data: np.ndarray) -> Iterator[ImageFile]:
    """Open an image from the bytes of its file, without decoding it.

    Raises:
        ValueError: If the format is not in FORMATS, or the image is too large.
        Exception: Anything that Pillow raises for a damaged file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the same limit is enforced below
            picture = Image.open(io.BytesIO(data.tobytes()), formats=FORMATS)
    except UnidentifiedImageError as error:
        unknown = f"it is not an image in a supported format: {', '.join(FORMATS)}"
        raise ValueError(unknown if len(data) else "the file is empty") from error
    except Image.DecompressionBombError as error:  # above twice the limit
        pixels = re.search(r"\((\d+) pixels", str(error))
        raise ValueError(_too_many(f"{int(pixels[1]):,}" if pixels else "too many")) from error
    with picture:
        frame = jpeg_frame(data)
        scans = (frame.scans if frame else count_scans(data, 2)) if picture.format in ("JPEG", "MPO") else 1
        require_bounds(*picture.size, scans)
        if isinstance(picture, TiffImageFile):  # tiles may be larger than the image
            require_bounds(*(int(picture.tag_v2.get(tag, 1)) for tag in (TILEWIDTH, TILELENGTH)))
        yield picture


def require_bounds(width: int, height: int, scans: int = 1) -> None:
    """Raise a ValueError if an image has too many pixels, too unequal sides, or too many scans."""
    if width * height > MAX_PIXELS:
        raise ValueError(_too_many(f"{width} x {height}"))
    if max(width, height) > MOST_UNEQUAL * min(width, height):
        raise ValueError(f"it has {width} x {height} pixels; one side is more than {MOST_UNEQUAL} times the other")
    if scans > MAX_SCANS:
        raise ValueError(f"it has more than {MAX_SCANS} scans")


def _too_many(pixels: str) -> str:
    return f"it has {pixels} pixels, more than the limit of {MAX_PIXELS:,}"
