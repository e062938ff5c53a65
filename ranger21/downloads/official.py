"""ImageNet's official archives, divided into parts that processes read independently. Imports no torch.

The training archive contains one inner archive per class. The validation archive is flat; the development kit has the
classes of its images. Each archive is scanned once, header by header, for the positions of its parts.
"""

from pathlib import Path

from ranger21.downloads.devkit import DEVKIT, read_devkit
from ranger21.downloads.labels import ValLabels, numbered
from ranger21.downloads.parts import IMAGES_A_SLICE, Download
from ranger21.downloads.tars import ClassArchive, TarSlice, members
from ranger21.system.errors import UserError

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


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
    images = sum(len(part.contents) for part in parts if isinstance(part, TarSlice))
    contents = f"{classes:,} classes of training images, {images:,} validation images"
    return Download("the official archives", contents, DEVKIT, parts)


def archive_parts(source: Path) -> list[ClassArchive | TarSlice]:
    """Return the parts of the three archives in a folder; raise a UserError if the archives do not match."""
    truth, known = read_devkit(source / DEVKIT)
    beside = (source / DEVKIT,)
    train = [
        ClassArchive(source / TRAIN, wnid, info.offset_data, info.size, "train", rf"({wnid}_\w+\.JPEG)", beside)
        for _, info, wnid in members(source / TRAIN, r"(n\d{8})\.tar")
    ]
    strangers = {part.wnid for part in train} - known
    if strangers:
        raise UserError(f"{source / TRAIN} has the class {min(strangers)}, which {DEVKIT} lacks. Download both again.")
    return [*train, *val_slices(source / VAL, numbered(beside[0], DEVKIT, truth))]


def val_slices(archive: Path, labels: ValLabels) -> list[TarSlice]:
    """Return the parts of the flat archive of validation images; raise a UserError if its images are not the listed."""
    images = [
        (stem, info.name, info.offset_data, info.size)
        for _, info, stem in members(archive, r"(ILSVRC2012_val_\d{8})\.JPEG")
    ]
    labels.require_exactly((stem for stem, *_ in images), archive)
    places = [(f"{labels.wnids[stem]}/{name}", begin, size) for stem, name, begin, size in images]
    beside = (labels.file,) if labels.file.name == DEVKIT else ()
    slices = range(0, len(places), IMAGES_A_SLICE)
    return [TarSlice(archive, tuple(places[i : i + IMAGES_A_SLICE]), "val", beside) for i in slices]
