"""Parts whose images can be read one at a time, in any order, because it is known where each is. Imports no torch."""

import contextlib
import os
import struct
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ranger21.data.safe_open import read_file
from ranger21.downloads.parts import ImagePart, Wanted, reading

FILE, BYTES = -2, -1  # kinds of locations besides zip's methods of compression
DEFLATED = zipfile.ZIP_DEFLATED
LOCAL_HEADER, MAGIC = 30, b"PK\x03\x04"  # bytes of zip's header before a file's name, and its beginning


class Location(NamedTuple):
    """Where an image is in the container of its part.

    Attributes:
        place: CLASS/NAME.
        size: Bytes of the image.
        begin: Its first byte; for zip archives, that of its header.
        kind: BYTES of the container; FILE if the container is a folder that has a file NAME; or the method of
            compression in a zip archive.
        packed: Bytes of the compressed image in a zip archive.
        checksum: CRC-32 of the image in a zip archive.
    """

    place: str
    size: int
    begin: int = 0
    kind: int = BYTES
    packed: int = 0
    checksum: int = 0


class LocatedPart(ImagePart):
    """A part whose images can be read in any order."""

    @property
    @abstractmethod
    def container(self) -> Path:
        """The archive, or the folder of image files."""

    @abstractmethod
    def locations(self) -> Iterator[Location]:
        """Yield where each image is, in the order that is fast to read."""

    def listing(self) -> Iterator[tuple[str, int]]:
        for image in self.locations():
            yield image.place, image.size

    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        with contextlib.closing(ImageReader()) as reader:
            for image in self.locations():
                if wanted(image.place, image.size):
                    yield image.place, reader.read(self.container, image)


class ImageReader:
    """Reads images by their locations. The archive that was read last stays open until `close`."""

    def __init__(self) -> None:
        self._open: tuple[Path, int] | None = None

    def __reduce__(self) -> tuple[type["ImageReader"], tuple[()]]:
        return ImageReader, ()  # descriptors are of no use to another process

    def read(self, container: Path, image: Location) -> bytes:
        """Return the content of an image; raise a UserError if it cannot be read or is not as it was listed."""
        file = container / image.place.rpartition("/")[2] if image.kind == FILE else container
        with reading(file):
            if image.kind == FILE:
                data = read_file(file).tobytes()
            elif image.kind == BYTES:
                data = os.pread(self._descriptor(file), image.size, image.begin)
            else:
                data = _zipped(self._descriptor(file), image)
            if len(data) != image.size:
                raise EOFError(f"{image.place} has {len(data):,} instead of {image.size:,} bytes")
            return data

    def _descriptor(self, file: Path) -> int:
        if self._open is None or self._open[0] != file:
            self.close()
            self._open = file, os.open(file, os.O_RDONLY)
        return self._open[1]

    def close(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None


def _zipped(descriptor: int, image: Location) -> bytes:
    header = os.pread(descriptor, LOCAL_HEADER, image.begin)
    if not header.startswith(MAGIC) or len(header) < LOCAL_HEADER:
        raise zipfile.BadZipFile(f"no header of {image.place}")
    before = LOCAL_HEADER + sum(struct.unpack("<HH", header[-4:]))  # the header, its name and extra field
    data = os.pread(descriptor, image.packed, image.begin + before)
    if image.kind == DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, image.size + 1)
    if len(data) != image.size or zlib.crc32(data) != image.checksum:
        raise zipfile.BadZipFile(f"{image.place} does not have its size or checksum")
    return data
