"""ImageNet's official archives, divided into parts that processes read independently. Imports no torch.

The training archive contains one inner archive per class. The validation archive is flat; the development kit has the
classes of its images. Each archive is scanned once, header by header, for the positions of its parts.
"""

import gzip
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.data.names import LONGEST
from ranger21.downloads.parts import Download, PartState, Wanted, compared, members, reading
from ranger21.system.errors import UserError
from ranger21.system.memory import at_most

TRAIN, VAL, DEVKIT = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"
TRUTH, META = (f"ILSVRC2012_devkit_t12/data/{name}" for name in ("ILSVRC2012_validation_ground_truth.txt", "meta.mat"))
IMAGES_A_SLICE = 500  # validation images per part, about 70 MB
LARGEST_DEVKIT = 1 << 26  # bytes when unpacked, far more than the real one has


@dataclass(frozen=True)
class ClassArchive:
    """The training images of one class, an inner archive."""

    file: Path
    wnid: str
    begin: int
    size: int
    split = "train"

    @property
    def files(self) -> tuple[Path, ...]:
        return self.file, self.file.with_name(DEVKIT)

    def missing(self, folder: Path) -> PartState:
        size, differing = self.size, 0
        if (folder / self.wnid).exists():  # otherwise all are missing
            images = ((f"{self.wnid}/{info.name}", info.size) for _, info in self._images())
            size, differing = compared(folder, images)
        return PartState(size, frozenset([self.wnid]), differing)

    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        for tar, info in self._images():
            if wanted(place := f"{self.wnid}/{info.name}", info.size):
                data = tar.extractfile(info)
                assert data is not None  # true for every regular file
                yield place, data.read()

    def _images(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
        for tar, info, _ in members(self.file, rf"({self.wnid}_\w+)\.JPEG", self.begin):
            yield tar, info


@dataclass(frozen=True)
class ValSlice:
    """Consecutive validation images. `contents` has the place CLASS/NAME, first byte and size of each."""

    file: Path
    contents: tuple[tuple[str, int, int], ...]
    split = "val"

    @property
    def files(self) -> tuple[Path, ...]:
        return self.file, self.file.with_name(DEVKIT)

    def missing(self, folder: Path) -> PartState:
        size, differing = compared(folder, ((place, size) for place, _, size in self.contents))
        return PartState(size, frozenset(place.partition("/")[0] for place, _, _ in self.contents), differing)

    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        with reading(self.file), open(self.file, "rb") as stream:
            for place, begin, size in self.contents:
                if wanted(place, size):
                    stream.seek(begin)
                    data = stream.read(size)
                    if len(data) < size:
                        raise EOFError(f"{place} ends early")
                    yield place, data


def lacking(source: Path) -> list[str]:
    """Return the archives that a folder lacks if it has some of the three, else an empty list."""
    absent = [name for name in (TRAIN, VAL, DEVKIT) if not (source / name).exists()]
    return absent if len(absent) < 3 else []


def find(source: Path) -> Download | None:
    """Return the three archives in a folder, or None if it lacks one. Raises a UserError if they do not match."""
    if not all((source / name).exists() for name in (TRAIN, VAL, DEVKIT)):
        return None
    parts = archive_parts(source)
    classes = sum(isinstance(part, ClassArchive) for part in parts)
    images = sum(len(part.contents) for part in parts if isinstance(part, ValSlice))
    contents = f"{classes:,} classes of training images, {images:,} validation images"
    return Download("the official archives", contents, DEVKIT, parts)


def archive_parts(source: Path) -> list[ClassArchive | ValSlice]:
    """Return the parts of the three archives in a folder; raise a UserError if the archives do not match."""
    truth, known = read_devkit(source / DEVKIT)
    train = [
        ClassArchive(source / TRAIN, wnid, info.offset_data, info.size)
        for _, info, wnid in members(source / TRAIN, r"(n\d{8})\.tar")
    ]
    strangers = {part.wnid for part in train} - known
    if strangers:
        raise UserError(f"{source / TRAIN} has the class {min(strangers)}, which {DEVKIT} lacks. Download both again.")
    val = [
        (int(number), info.name, info.offset_data, info.size)
        for _, info, number in members(source / VAL, r"ILSVRC2012_val_(\d{8})\.JPEG")
    ]
    if sorted(number for number, *_ in val) != list(range(1, len(truth) + 1)):
        text = f"{len(val)} images, but {DEVKIT} has the classes of the images 1 to {len(truth)}"
        raise UserError(f"{source / VAL} has {text}. Download both again.")
    places = [(f"{truth[number - 1]}/{name}", begin, size) for number, name, begin, size in val]
    slices = range(0, len(places), IMAGES_A_SLICE)
    return [*train, *(ValSlice(source / VAL, tuple(places[i : i + IMAGES_A_SLICE])) for i in slices)]


def read_devkit(file: Path) -> tuple[list[str], set[str]]:
    """Return the wnids of all validation images, by number, and the set of all wnids."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError(f"Reading {DEVKIT} needs scipy: pip install 'ranger21-imagenet[prepare]'") from error
    with reading(file), gzip.open(file) as packed:
        content = packed.read(LARGEST_DEVKIT + 1)
        if len(content) > LARGEST_DEVKIT:
            raise ValueError(f"it expands to more than {LARGEST_DEVKIT:,} bytes")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            truth, meta = (_content(tar, name) for name in (TRUTH, META))
        with at_most(4 * LARGEST_DEVKIT):
            synsets: Any = loadmat(io.BytesIO(meta), variable_names=["synsets"])["synsets"].ravel()
        leaves = [synset for synset in synsets if synset["num_children"].item() == 0]
        wnids = {int(leaf["ILSVRC2012_ID"].item()): str(leaf["WNID"].item()) for leaf in leaves}
        numbers = [int(line) for line in truth.split()]
    if odd := [wnid for wnid in wnids.values() if not re.fullmatch(r"n\d{8}", wnid, re.ASCII)]:
        text = "which is not a wnid such as n01440764. Download it again"
        raise UserError(f"{file} has a class {odd[0][:LONGEST]!a}, {text}.")
    if unknown := set(numbers) - set(wnids):
        raise UserError(f"{file} assigns a validation image to the unknown class {min(unknown)}. Download it again.")
    return [wnids[number] for number in numbers], set(wnids.values())


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.getmember(name)
    data = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if data is None:
        raise tarfile.ReadError(f"{name} is not a file")
    return data.read()
