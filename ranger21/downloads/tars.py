"""Tar archives with images, plain or compressed with gzip, without trust in their headers. Imports no torch."""

import gzip
import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ranger21.data.names import LONGEST, is_hidden, is_image, is_plain
from ranger21.data.safe_open import MAX_BYTES
from ranger21.downloads.located import LocatedPart, Location
from ranger21.downloads.parts import BLOCK, MOST_OF_FILE, SLACK, ImagePart, PartState, Wanted, reading
from ranger21.system.errors import UserError

GZIP = b"\x1f\x8b"  # the first bytes of a compressed file
IMAGE_NAME = r"([\w-]+(?:\.[\w-]+)*\.\w+)"  # group: a name without folders


class Bounded:
    """A file for tarfile, which trusts the lengths in headers. It refuses reads larger than an image.

    Args:
        stream: The file.
        most: Position beyond which reading fails.

    Attributes:
        last: What was read last.
    """

    def __init__(self, stream: BinaryIO | gzip.GzipFile, most: int) -> None:
        self.stream, self.most, self.last = stream, most, b""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_BYTES:
            raise tarfile.ReadError(f"a part of {size:,} bytes")
        self.last = self.stream.read(size)
        return self._checked(self.last)

    def seek(self, place: int, /) -> int:
        return self._checked(self.stream.seek(place))

    def tell(self) -> int:
        return self.stream.tell()

    def _checked(self, result: Any) -> Any:
        if self.stream.tell() > self.most:
            raise tarfile.ReadError("its images are far larger than the file")
        return result


@contextmanager
def opened(file: Path) -> Iterator[Bounded]:
    """Open an archive, compressed or not."""
    with reading(file), open(file, "rb") as stream:
        packed = stream.read(len(GZIP)) == GZIP
        stream.seek(0)
        if not packed:
            yield Bounded(stream, sys.maxsize)
            return
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield Bounded(unpacked, MOST_OF_FILE * os.fstat(stream.fileno()).st_size + SLACK)


def members(
    file: Path, pattern: str, begin: int = 0, folders: str = ""
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, str]]:
    """Yield the members of the archive at byte `begin`, each with the first group of `pattern` in its name.

    Every member must be a regular file whose name matches the pattern. Patterns allow slashes only where they name the
    folder, so names cannot lead to other folders. Images must not exceed the size that the loader accepts. Members
    must be read in order, each before the next, because a compressed file cannot go back.

    Args:
        file: The archive.
        pattern: A regular expression.
        begin: Position of the first header.
        folders: A regular expression for the names of members that are folders, which are passed over.

    Raises:
        UserError: If the archive has an unexpected member, is damaged, or is truncated.
    """
    with opened(file) as stream:
        stream.seek(begin)
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            count = 0
            for info in tar:
                tar.members.clear()  # which would take much memory
                count += 1
                if info.isdir() and re.fullmatch(folders, info.name, re.ASCII):
                    continue
                match = re.fullmatch(pattern, info.name, re.ASCII)
                name = info.name.rpartition("/")[2]
                fits = 0 <= info.size <= (sys.maxsize if name.endswith(".tar") else MAX_BYTES)
                if match is None or not is_plain(name) or not info.isreg() or info.issparse() or not fits:
                    raise unexpected(file, info.name, info.size)
                yield tar, info, match[1]
            if not count:
                raise tarfile.ReadError("it is empty")
            # tarfile takes a damaged or missing header for the end of the archive. Require the real end marker.
            if stream.last != bytes(BLOCK):
                raise tarfile.ReadError(f"no end of the archive at byte {tar.offset}")


def unexpected(file: Path, name: str, size: int) -> UserError:
    """Return the error for a member that an archive should not have."""
    member = f"{name[:LONGEST]!a} ({size:,} bytes)"
    return UserError(f"{file} has the unexpected member {member}, which was not written. Download the archive again.")


def content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    """Return the content of a regular file of an archive."""
    data = tar.extractfile(info)
    assert data is not None  # true for every regular file
    return data.read()


@dataclass(frozen=True)
class ClassArchive(LocatedPart):
    """The images of one class in an archive of their own, which may lie in another archive.

    Attributes:
        pattern: What the names must match; its first group is the image's name.
        beside: Further files that must be correct, such as the development kit.
    """

    file: Path
    wnid: str
    begin: int
    size: int
    split: str = "train"
    pattern: str = rf"(?:\./)?(?:n\d{{8}}/)?{IMAGE_NAME}"
    beside: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return self.file, *self.beside

    def missing(self, folder: Path) -> PartState:
        if (folder / self.wnid).exists():
            return super().missing(folder)
        return PartState(0, self.size, frozenset([self.wnid]), 0)  # all are missing, however many they are

    @property
    def container(self) -> Path:
        return self.file

    def locations(self) -> Iterator[Location]:
        names = set[str]()
        for _, info, name in members(self.file, self.pattern, self.begin, folders=rf"\.|(?:\./)?{self.wnid}"):
            if not is_image(name) or is_hidden(name) or name in names:
                raise unexpected(self.file, info.name, info.size)
            names.add(name)
            yield Location(f"{self.wnid}/{name}", info.size, info.offset_data)


@dataclass(frozen=True)
class TarSlice(LocatedPart):
    """Images at known places of an archive. `contents` has the place CLASS/NAME, first byte and size of each."""

    file: Path
    contents: tuple[tuple[str, int, int], ...]
    split: str = "val"
    beside: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return self.file, *self.beside

    @property
    def container(self) -> Path:
        return self.file

    def locations(self) -> Iterator[Location]:
        yield from (Location(place, size, begin) for place, begin, size in self.contents)


@dataclass(frozen=True)
class NamedArchive(ImagePart):
    """An archive of images of many classes, in which the name of each image gives its class.

    Attributes:
        place_of: Returns the place CLASS/NAME for the name of an image. It must be a function of a module.
        pattern: What the names must match; its first group is passed to `place_of`.
    """

    file: Path
    split: str
    place_of: Callable[[str], str]
    pattern: str

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def listing(self) -> Iterator[tuple[str, int]]:
        for _, info, name in members(self.file, self.pattern, folders=r"[\w./-]*"):
            yield self.place_of(name), info.size

    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        for tar, info, name in members(self.file, self.pattern, folders=r"[\w./-]*"):
            if wanted(place := self.place_of(name), info.size):
                with reading(self.file):
                    data = content(tar, info)
                yield place, data
