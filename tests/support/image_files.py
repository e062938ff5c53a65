"""Contents of image files: ordinary ones, and some that cost a careless reader much time or memory."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(canary) (w) file closefile\nshowpage\n"
SIZE = (75, 50)
ROWS, COLUMNS = np.mgrid[: SIZE[1], : SIZE[0]]
PIXELS = np.stack([ROWS * 5, COLUMNS * 3, 255 - ROWS * 2 - COLUMNS], 2).astype(np.uint8)  # smooth, so codecs agree
RGB = Image.fromarray(PIXELS)


def saved(picture: Image.Image = RGB, kind: str = "JPEG", **options: object) -> bytes:
    """Return a picture as the content of an image file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(side: int = 64, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((side, side), 40).convert("RGB").save(buffer, "JPEG", **options)
    return buffer.getvalue()


def jpeg_of_many_scans(scans: int) -> bytes:
    """Return a progressive JPEG in which the header of the last scan is repeated many times."""
    data = jpeg(progressive=True)
    begin = data.rindex(b"\xff\xda")
    return data[:-2] + data[begin : begin + 10] * (scans - data.count(b"\xff\xda")) + b"\xff\xd9"


def png(width: int, height: int, rows: bytes | None = None) -> bytes:
    """Return a red PNG file, a thousand times smaller than its pixels in memory."""
    rows = (b"\0" + b"\xff\0\0" * width) * height if rows is None else rows
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    encoded = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(encoded)
