"""Opens a file as an image: of few formats, and of bounded size, so that a file of strangers costs little. No torch.

Pillow knows some forty formats, and starts another program (Ghostscript) for one of them; a few kilobytes can stand for
gigabytes of pixels, or for hours of decoding. What this room refuses, it refuses by the header.
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

# What ImageNet and its variants have under whatever name, and what the endings in names.EXTENSIONS stand for. All are
# decoded within this process, by Pillow, libjpeg-turbo, zlib, libtiff and libwebp.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF")
MAX_PIXELS = 89_478_485  # from which on Pillow warns; ImageNet's largest is said to have 9331 x 6530, 61 million
MAX_BYTES = 4 * MAX_PIXELS
MAX_SCANS = 100  # of a JPEG, as in libtiff: each may be a few bytes, and costs a pass over the whole image
# Times the shorter side: a picture with a longer one would grow beyond all memory where the shorter is resized.
MOST_UNEQUAL = 300
NO_SIZE = (0xC4, 0xC8, 0xCC)  # markers of JPEG within C0 ... CF that begin no frame
MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")  # but for those that stand within a scan
START, END, ALONE = 0xDA, 0xD9, (0x01, 0xD8)  # of a scan; of the image; markers that nothing belongs to


class Frame(NamedTuple):
    """What a JPEG's header says.

    Attributes:
        bits: of each component of a pixel.
        scans: in how many parts the image lies, 1 unless it is progressive or a component is by itself.
    """

    width: int
    height: int
    components: int
    bits: int
    scans: int


def read_file(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a file as uint8 (bytes,). Raises an OSError; a ValueError for a file that is not regular, or too large."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else a pipe without a writer would hold us for ever
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise ValueError("it is not a regular file")
        if state.st_size > MAX_BYTES:
            raise ValueError(f"it has {state.st_size:,} bytes, and files of up to {MAX_BYTES:,} are read")
        data, got = np.empty(state.st_size, np.uint8), 0
        while got < len(data) and (more := os.readv(descriptor, [data[got:].data])):
            got += more
        return data[:got]
    finally:
        os.close(descriptor)


def jpeg_frame(data: np.ndarray) -> Frame | None:
    """Return what the header of a JPEG says; None: it has none."""
    head, place = data.data, 2
    size: tuple[int, int, int, int] | None = None
    if len(head) < 4 or head[0] != 0xFF or head[1] != 0xD8:
        return None
    while place + 9 < len(head) and head[place] == 0xFF:
        marker = head[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in NO_SIZE and size is None:
            height, width = (head[place + i] << 8 | head[place + i + 1] for i in (5, 7))
            size, several = (width, height, head[place + 9], head[place + 4]), marker not in (0xC0, 0xC1)
        if marker == START:  # a baseline JPEG's first scan is its only one if it has all components
            whole = size is not None and not several and head[place + 4] == size[2]
            return Frame(*size, scans=1 if whole else count_scans(data, place)) if size else None
        place += 1 if marker == 0xFF else 2 + (head[place + 2] << 8 | head[place + 3])
    return Frame(*size, scans=count_scans(data, 2)) if size else None


def count_scans(data: np.ndarray, place: int) -> int:
    """Count the scans that begin from `place` on up to the image's end, as far as one more than MAX_SCANS."""
    content, scans = data.tobytes(), 0
    while scans <= MAX_SCANS and (found := MARKER.search(content, place)) and found[1][0] != END:
        scans += found[1][0] == START
        place = found.end() + (
            0 if found[1][0] in ALONE else int.from_bytes(content[found.end() : found.end() + 2], "big")
        )
    return scans


@contextmanager
def opened(data: np.ndarray) -> Iterator[ImageFile]:
    """Open the picture in a file's bytes, without decoding it.

    Raises a ValueError if it is of another format than FORMATS, or too large, and whatever Pillow raises.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is the same, and firm
            picture = Image.open(io.BytesIO(data.tobytes()), formats=FORMATS)
    except UnidentifiedImageError as error:
        unknown = f"it is not an image in a format that is read here: {', '.join(FORMATS)}"
        raise ValueError(unknown if len(data) else "the file is empty") from error
    except Image.DecompressionBombError as error:  # beyond twice the limit
        pixels = re.search(r"\((\d+) pixels", str(error))
        raise ValueError(_too_many(f"{int(pixels[1]):,}" if pixels else "too many")) from error
    with picture:
        frame = jpeg_frame(data)
        scans = (frame.scans if frame else count_scans(data, 2)) if picture.format in ("JPEG", "MPO") else 1
        require_bounds(*picture.size, scans)
        if isinstance(picture, TiffImageFile):  # a tile may be larger than the image
            require_bounds(*(int(picture.tag_v2.get(tag, 1)) for tag in (TILEWIDTH, TILELENGTH)))
        yield picture


def require_bounds(width: int, height: int, scans: int = 1) -> None:
    """Raise a ValueError for an image that is too large, too long, or in too many parts."""
    if width * height > MAX_PIXELS:
        raise ValueError(_too_many(f"{width} x {height}"))
    if max(width, height) > MOST_UNEQUAL * min(width, height):
        raise ValueError(f"it has {width} x {height} pixels")
    if scans > MAX_SCANS:
        raise ValueError(f"it is cut into more than {MAX_SCANS} scans")


def _too_many(pixels: str) -> str:
    return f"it has {pixels} pixels, and images of up to {MAX_PIXELS:,} are read"
