"""Kaggle's copy of ImageNet (ILSVRC/Data/CLS-LOC), unpacked or as one zip archive. Imports no torch."""

import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ranger21.data.disk_space import tell
from ranger21.data.names import is_plain
from ranger21.data.safe_open import MAX_BYTES
from ranger21.downloads.folders import not_there, splits_in
from ranger21.downloads.labels import (
    ANNOTATIONS,
    CSV,
    LARGEST_ANNOTATION,
    LARGEST_TABLE,
    WHICH_FILE,
    ValLabels,
    annotated,
    table_labels,
)
from ranger21.downloads.located import DEFLATED, LocatedPart, Location
from ranger21.downloads.parts import IMAGES_A_SLICE, Download, reading
from ranger21.downloads.tars import unexpected
from ranger21.system.errors import UserError
from ranger21.system.wording import counted

LAYOUT = "Kaggle's layout"
ZIP = "imagenet-object-localization-challenge.zip"
DATA = "Data/CLS-LOC"
LIST = "ILSVRC/ImageSets/CLS-LOC/train_cls.txt"
TRAIN_NAME = re.compile(rf"ILSVRC/{DATA}/train/(n\d{{8}}/n\d{{8}}_\w+\.JPEG)", re.ASCII)
VAL_NAME = re.compile(rf"ILSVRC/{DATA}/val/(ILSVRC2012_val_\d{{8}})\.JPEG", re.ASCII)


@dataclass(frozen=True)
class ZipSlice(LocatedPart):
    """Images of a zip archive."""

    file: Path
    contents: tuple[Location, ...]
    split: str

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    @property
    def container(self) -> Path:
        return self.file

    def locations(self) -> Iterator[Location]:
        yield from self.contents


def find(source: Path) -> Download | None:
    """Return Kaggle's images in a folder, or None if it has none.

    The folder may be ILSVRC, contain it or be its Data/CLS-LOC, or contain the zip archive.

    Raises:
        UserError: If something is missing or does not match.
    """
    absolute = source.absolute()
    above = [absolute.parents[1]] if absolute.parts[-2:] == tuple(DATA.split("/")) else []
    for ilsvrc in (source / "ILSVRC", source, *above):
        data = ilsvrc / DATA
        if data.is_dir() and (found := splits_in(data, [ilsvrc.absolute().parent, ilsvrc], LAYOUT)):
            return found
    for file in sorted(source.glob("*.zip")):
        if file.name == ZIP or zipfile.is_zipfile(file):
            tell(f"reading the list of files in {file.name}")
            with reading(file), zipfile.ZipFile(file) as archive:
                if any(name.startswith(f"ILSVRC/{DATA}/") for name in archive.NameToInfo):
                    return zipped(archive, file)
    return None


def zipped(archive: zipfile.ZipFile, file: Path) -> Download:
    """Return the images of Kaggle's zip archive; raise a UserError if they are incomplete or not as expected."""
    train: dict[str, list[Location]] = {}
    val: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        within = info.filename.startswith((f"ILSVRC/{DATA}/train/", f"ILSVRC/{DATA}/val/"))
        if not within or info.is_dir():
            continue
        if match := TRAIN_NAME.fullmatch(info.filename):
            train.setdefault(match[1].partition("/")[0], []).append(_image(info, match[1], file))
        elif (match := VAL_NAME.fullmatch(info.filename)) and match[1] not in val:
            val[match[1]] = info
        else:
            raise unexpected(file, info.filename, info.file_size)
    if not train or not val:
        raise UserError(f"{file} has no images in ILSVRC/{DATA}/{'val' if train else 'train'}. Download it again.")
    if LIST in archive.NameToInfo:
        places = (image.place for images in train.values() for image in images)
        if lacking := not_there(_content(archive, LIST, LARGEST_TABLE).decode(), places):
            text = f"{counted(len(lacking), 'training image')}, such as {min(lacking)}.JPEG, which {LIST} lists"
            raise UserError(f"{file} lacks {text}. Download it again.")
    labels = _labels(archive, file)
    labels.require_exactly(val, file)
    in_val = [_image(info, f"{labels.wnids[stem]}/{stem}.JPEG", file) for stem, info in sorted(val.items())]
    parts = [
        *(ZipSlice(file, tuple(train[wnid]), "train") for wnid in sorted(train)),
        *(ZipSlice(file, tuple(in_val[i : i + IMAGES_A_SLICE]), "val") for i in range(0, len(val), IMAGES_A_SLICE)),
    ]
    count = f"{sum(map(len, train.values())):,} + {len(val):,} images"
    return Download(f"{LAYOUT}, in {file.name}", count, labels.name, parts)


def _image(info: zipfile.ZipInfo, place: str, file: Path) -> Location:
    link = stat.S_ISLNK(info.external_attr >> 16)
    plain = info.compress_type in (zipfile.ZIP_STORED, DEFLATED) and not info.flag_bits & 1  # bit 0: encrypted
    fits = max(info.file_size, info.compress_size) <= MAX_BYTES
    if link or not plain or not fits or not is_plain(place.rpartition("/")[2]):
        raise unexpected(file, info.filename, info.file_size)
    return Location(place, info.file_size, info.header_offset, info.compress_type, info.compress_size, info.CRC)


def _labels(archive: zipfile.ZipFile, file: Path) -> ValLabels:
    """Return the classes of the validation images in the archive."""
    if CSV in archive.NameToInfo:
        return ValLabels(file / CSV, CSV, table_labels(_content(archive, CSV, LARGEST_TABLE)))
    place = f"ILSVRC/{ANNOTATIONS}"
    names = [name for name in archive.NameToInfo if name.startswith(f"{place}/") and name.endswith(".xml")]
    if not names:
        raise UserError(f"{file} does not have the classes of the validation images. {WHICH_FILE}.")
    contents = ((Path(name).stem, _content(archive, name, LARGEST_ANNOTATION)) for name in names)
    return ValLabels(file / place, ANNOTATIONS, dict(annotated(contents, file / place)))


def _content(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    with archive.open(name) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{name} has more than {most:,} bytes")
    return data
