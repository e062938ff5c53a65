"""Looks at every file of train/ and val/: counts them, decodes each image, and tells whatever is odd. Imports no torch.

What the loader cannot read, or what makes it another data set than it should be, is wrong. What it copes with, though
a person may want to know of it (ImageNet itself has CMYK and grey images, EXIF, and a PNG under a JPEG's name), is a
notice.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.data.indexing import renew
from ranger21.data.layout import SPLITS, class_folders
from ranger21.data.listing import DEEPEST
from ranger21.data.names import is_hidden, is_image
from ranger21.data.oddities import oddities
from ranger21.system.errors import UserError
from ranger21.system.processes import in_parallel

WRONG = {
    "counts": "counts that are not ImageNet's",
    "one_split_only": "classes of one split only",
    "empty_class": "classes without images",
    "unreadable": "unreadable images",
    "stray": "files that are no images by their names",
    "broken_link": "links that lead nowhere",
    "link_loop": "links that lead back to themselves",
    "stale_index": "kept indices that are of other files",
}
NOTICES = {
    "index": "kept indices that were of other files, made anew",
    "hidden": "hidden files and folders, passed over",
    "other_format": "another format than the name says",
    "cmyk": "CMYK",
    "grey": "grey",
    "palette": "palettes",
    "deep": "more than 8 bits",
    "other_mode": "other modes",
    "rotated": "EXIF with an orientation that turns or mirrors",
    "exif": "other EXIF",
    "warning": "other warnings of Pillow's",
}
CLASSES = 1000
IMAGES = {"train": (1_281_167, 732, 1300), "val": (50_000, 50, 50)}  # of ImageNet, and of its classes at least, at most


@dataclass(frozen=True)
class DataFinding:
    """Something wrong, or a notice: its kind, the file or folder by its path below the root, and what it is."""

    kind: str
    file: str
    why: str


@dataclass(frozen=True)
class ClassFolder:
    """The images of a class, by their paths below the root."""

    root: Path
    split: str
    name: str
    images: tuple[str, ...]


def verify(root: Path, expect: str, processes: int) -> dict[str, Any]:
    """Return what there is, what is wrong and what is odd, in an order that depends on nothing but the files.

    Args:
        expect: "imagenet", whose counts are required, or "none".
    """
    folders, findings = [], []
    for split in SPLITS:
        for name in names_of_classes(root, split):
            images, odd = listing(root, f"{split}/{name}")
            folders.append(ClassFolder(root, split, name, tuple(images)))
            findings += odd
        findings += beside_the_classes(root, split)
        findings += indices(root, split)
    for _, found in in_parallel(examine, folders, processes, "decoding", lambda folder: len(folder.images)):
        findings += found
    findings += off_counts(folders) if expect == "imagenet" else []
    findings += lopsided(folders)
    told = sorted(findings, key=lambda finding: (finding.file, finding.why))
    of_kind = {
        kind: [{"file": as_text(f.file), "why": f.why} for f in told if f.kind == kind] for kind in WRONG | NOTICES
    }
    return {
        "root": as_text(str(root)),
        "expect": expect,
        "ok": not any(of_kind[kind] for kind in WRONG),
        "splits": {split: summary([f for f in folders if f.split == split]) for split in SPLITS},
        "wrong": {kind: of_kind[kind] for kind in WRONG},
        "notices": {kind: of_kind[kind] for kind in NOTICES},
    }


def names_of_classes(root: Path, split: str) -> list[str]:
    """Return the names of the class folders of a split. Raises a UserError if there are none."""
    hint = "ROOT must be the folder that holds train/ and val/, with a folder for each class in both"
    try:
        names = class_folders(root / split)
    except OSError as error:
        raise UserError(f"{error.filename or root / split} cannot be read ({error.strerror}): {hint}.") from error
    if not names:
        raise UserError(f"{root / split} has no class folders: {hint}.")
    return names


def listing(root: Path, folder: str, above: tuple[tuple[int, int], ...] = ()) -> tuple[list[str], list[DataFinding]]:
    """The images in a folder and in those below it, where the loader looks for them, too; and what else is there."""
    images: list[str] = []
    odd: list[DataFinding] = []
    try:
        state = (root / folder).stat()
        if (state.st_dev, state.st_ino) in above:
            return [], [DataFinding("link_loop", folder, "leads to a folder that holds it")]
        if len(above) > DEEPEST:
            return [], [DataFinding("unreadable", folder, f"more than {DEEPEST} folders deep")]
        entries = list(os.scandir(root / folder))
    except OSError as error:
        return [], [DataFinding("unreadable", folder, str(error.strerror))]
    for entry in entries:
        place = f"{folder}/{entry.name}"
        kind = kind_of(entry)
        if kind == "folder":
            more_images, more_odd = listing(root, place, (*above, (state.st_dev, state.st_ino)))
            images += more_images
            odd += more_odd
        elif kind == "image":
            images.append(place)
        else:
            odd.append(DataFinding(kind, place, what_is(entry)))
    if not images and not above:
        odd.append(DataFinding("empty_class", folder, "no images"))
    return sorted(images), odd


def kind_of(entry: os.DirEntry[str]) -> str:
    """folder, image, hidden, or what is wrong with it."""
    if is_hidden(entry.name):
        return "hidden"
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "image" if is_image(entry.name) else "stray"
    except OSError as error:
        return "link_loop" if error.errno == errno.ELOOP else "unreadable"
    return "broken_link" if entry.is_symlink() else "stray"


def what_is(entry: os.DirEntry[str]) -> str:
    if is_hidden(entry.name):
        return "no data, by its name"
    if entry.is_symlink():
        return f"leads to {as_text(str(Path(entry.path).readlink()))}"
    return "not a regular file" if is_image(entry.name) else "no image by its name"


def beside_the_classes(root: Path, split: str) -> Iterator[DataFinding]:
    with os.scandir(root / split) as entries:
        for entry in entries:
            kind = kind_of(entry)
            if kind == "image":
                yield DataFinding("stray", f"{split}/{entry.name}", "in no class folder")
            elif kind != "folder":
                yield DataFinding(kind, f"{split}/{entry.name}", what_is(entry))


def indices(root: Path, split: str) -> list[DataFinding]:
    """The indices by which the next start would go, if they are of other files: they are made anew."""
    try:
        return [
            DataFinding("index", split, f"{as_text(str(place))} was of other files than there are: it is made anew")
            for place in renew(root / split)
        ]
    except OSError as error:
        why = f"{as_text(str(error.filename))} is of other files, and cannot be removed ({error.strerror}): delete it"
        return [DataFinding("stale_index", split, why)]
    except UserError:  # a folder that cannot be read, or a link to one above: found before
        return []


def examine(folder: ClassFolder) -> list[DataFinding]:
    """Decode every image of a class."""
    return [DataFinding(kind, image, why) for image in folder.images for kind, why in oddities(folder.root / image)]


def as_text(path: str) -> str:
    """Return a path as text that JSON takes: bytes that are not UTF-8 are written as `\\xe4`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def off_counts(folders: list[ClassFolder]) -> Iterator[DataFinding]:
    for split, (total, least, most) in IMAGES.items():
        counts = {f.name: len(f.images) for f in folders if f.split == split}
        if len(counts) != CLASSES:
            yield DataFinding("counts", split, f"{len(counts):,} classes, not {CLASSES:,}")
        if sum(counts.values()) != total:
            yield DataFinding("counts", split, f"{sum(counts.values()):,} images, not {total:,}")
        for name, count in counts.items():
            if not least <= count <= most:
                wanted = f"{least}" if least == most else f"{least} to {most}"
                yield DataFinding("counts", f"{split}/{name}", f"{count:,} images, not {wanted}")


def lopsided(folders: list[ClassFolder]) -> Iterator[DataFinding]:
    names = {split: {f.name for f in folders if f.split == split} for split in SPLITS}
    for split, other in (SPLITS, SPLITS[::-1]):
        for name in names[split] - names[other]:
            yield DataFinding("one_split_only", f"{split}/{name}", f"not in {other}/")


def summary(folders: list[ClassFolder]) -> dict[str, Any]:
    by_size = sorted((len(f.images), as_text(f.name)) for f in folders)
    smallest, largest = ({"class": name, "images": count} for count, name in (by_size[0], by_size[-1]))
    images = sum(count for count, _ in by_size)
    return {"classes": len(folders), "images": images, "smallest": smallest, "largest": largest}
