"""Parts of a download, each read by one process, and the reading of tar archives. Imports no torch."""

import io
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ranger21.data.names import LONGEST, is_plain
from ranger21.data.safe_open import MAX_BYTES
from ranger21.system.errors import UserError
from ranger21.system.wording import reason

BLOCK = 512  # bytes of a tar header, and of the zeros that end an archive


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Convert any exception from reading a file into a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file can make tarfile, SciPy and PyArrow raise anything
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{file} cannot be read ({error.strerror}). Check its permissions and the disk.") from error
        why = "it would need far more memory than it should" if isinstance(error, MemoryError) else reason(error)
        raise UserError(f"{file} is damaged or truncated ({why}). Download it again.") from error


class Headers(io.FileIO):
    """A file that refuses reads larger than an image, because tarfile trusts the lengths in headers."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_BYTES:
            raise tarfile.ReadError(f"a part of {size:,} bytes")
        return super().read(size) or b""


def members(file: Path, pattern: str, begin: int = 0) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, str]]:
    """Yield the members of the archive at byte `begin`, each with the first group of `pattern` in its name.

    Every member must be a regular file whose name matches the pattern. No pattern allows a slash, or a dot before the
    suffix, so names cannot lead to other folders. Images must not exceed the size that the loader accepts.

    Raises:
        UserError: If the archive has an unexpected member, is damaged, or is truncated.
    """
    with reading(file), Headers(file) as stream:
        stream.seek(begin)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for info in tar:
                match = re.fullmatch(pattern, info.name, re.ASCII)
                fits = 0 <= info.size <= (MAX_BYTES if info.name.endswith(".JPEG") else sys.maxsize)
                if match is None or not is_plain(info.name) or not info.isreg() or info.issparse() or not fits:
                    member = f"{info.name[:LONGEST]!a} ({info.size:,} bytes)"
                    raise UserError(
                        f"{file} has the unexpected member {member}, which was not written. Download the archive again."
                    )
                yield tar, info, match[1]
            if not tar.getmembers():
                raise tarfile.ReadError("it is empty")
            # tarfile takes a damaged or missing header for the end of the archive. Require the real end marker.
            stream.seek(tar.offset)
            if stream.read(BLOCK) != bytes(BLOCK):
                raise tarfile.ReadError(f"no end of the archive at byte {tar.offset}")


def weight(size: int) -> int:
    """Return the approximate disk space of an image in bytes."""
    return size + BLOCK


@dataclass(frozen=True)
class PartState:
    """The state of a part's images in a folder.

    Attributes:
        missing: Bytes of the images that are missing from the folder or have the wrong size there.
        classes: Classes of the part.
        differing: Number of images that have the wrong size in the folder.
    """

    missing: int
    classes: frozenset[str]
    differing: int


@dataclass(frozen=True)
class Download:
    """A download that was recognized.

    Attributes:
        form: What it is, as in "the official archives".
        contents: What it has, as in "1,281,167 + 50,000 images".
        labels: Where the classes are read from, as in "LOC_val_solution.csv".
        parts: The parts of both splits.
    """

    form: str
    contents: str
    labels: str
    parts: Sequence["ImagePart"]

    def told(self, source: Path) -> str:
        """Return the sentence that says what was recognized."""
        return f"{source} has {self.form}: {self.contents}, labels from {self.labels}"


Wanted = Callable[[str, "int | None"], bool]  # takes an image's place CLASS/NAME and its size, None if unknown


class ImagePart(Protocol):
    """A part of a split's images, read by a single process."""

    @property
    def split(self) -> str: ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files from which the images and their classes are read."""

    def missing(self, folder: Path) -> PartState:
        """Return the state of the images in `folder`."""

    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        """Yield the wanted images as (place CLASS/NAME, content)."""


def size_there(path: Path) -> int | None:
    """Return the size of a file, or None if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def compared(folder: Path, images: Iterable[tuple[str, int]]) -> tuple[int, int]:
    """Return the bytes of images that are missing from a folder or differ in size, and the number of those that differ.

    Args:
        folder: The folder.
        images: The expected images, as place CLASS/NAME and size.
    """
    lacking = differing = 0
    for place, size in images:
        there = size_there(folder / place)
        lacking += weight(size) if there != size else 0
        differing += there not in (None, size)
    return lacking, differing
