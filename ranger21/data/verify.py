"""Verify a dataset: count the files of train/ and val/, decode every image, and report findings. Imports no torch.

A finding is wrong if the loader cannot read the file or the dataset is not the expected one. It is a notice if the
loader handles it (ImageNet has CMYK and grayscale images, EXIF data, and a PNG file with a JPEG name).
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
    "counts": "counts that differ from ImageNet's",
    "one_split_only": "classes in one split only",
    "empty_class": "classes without images",
    "unreadable": "unreadable images",
    "stray": "files that are not images in class folders",
    "broken_link": "broken links",
    "link_loop": "links to a folder that contains them",
    "stale_index": "outdated cached indices that cannot be removed",
}
NOTICES = {
    "index": "outdated cached indices, replaced",
    "hidden": "hidden files and folders, ignored",
    "other_format": "format differs from the file extension",
    "cmyk": "CMYK",
    "grey": "grayscale",
    "palette": "palette",
    "deep": "more than 8 bits",
    "other_mode": "other modes",
    "rotated": "EXIF orientation other than upright",
    "exif": "other EXIF data",
    "warning": "other warnings by Pillow",
}
CLASSES = 1000
IMAGES = {"train": (1_281_167, 732, 1300), "val": (50_000, 50, 50)}  # ImageNet: total, minimum and maximum per class


@dataclass(frozen=True)
class DataFinding:
    """A problem or notice.

    Attributes:
        kind: A key of WRONG or NOTICES.
        file: Path of the file or folder below the root.
        why: Description.
    """

    kind: str
    file: str
    why: str


@dataclass(frozen=True)
class ClassFolder:
    """The images of a class in a split, by path below the root."""

    root: Path
    split: str
    name: str
    images: tuple[str, ...]


def verify(root: Path, expect: str, processes: int) -> dict[str, Any]:
    """Return a report with counts, problems and notices, in a reproducible order.

    Args:
        root: Folder that contains train/ and val/.
        expect: "imagenet" to require its counts, or "none".
        processes: Number of processes.

    Raises:
        UserError: If a split has no class folders or cannot be read.
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
    """Return the names of the class folders of a split; raise a UserError if there are none."""
    hint = "ROOT must contain train/ and val/, each with a folder per class"
    try:
        names = class_folders(root / split)
    except OSError as error:
        raise UserError(f"{error.filename or root / split} cannot be read ({error.strerror}). {hint}.") from error
    if not names:
        raise UserError(f"{root / split} has no class folders. {hint}.")
    return names


def listing(root: Path, folder: str, above: tuple[tuple[int, int], ...] = ()) -> tuple[list[str], list[DataFinding]]:
    """Return the images in a folder and its subfolders, as the loader finds them, and findings about other files.

    Args:
        root: Root of the dataset.
        folder: Path of the folder below the root.
        above: Device and inode numbers of the folders above, to detect loops.
    """
    images: list[str] = []
    odd: list[DataFinding] = []
    try:
        state = (root / folder).stat()
        if (state.st_dev, state.st_ino) in above:
            return [], [DataFinding("link_loop", folder, "links to a folder that contains it")]
        if len(above) > DEEPEST:
            return [], [DataFinding("unreadable", folder, f"nested more than {DEEPEST} folders deep")]
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
    """Return "folder", "image", or the kind of finding for another entry."""
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
    """Return the description of an entry that is neither a folder nor an image."""
    if is_hidden(entry.name):
        return "hidden by its name"
    if entry.is_symlink():
        return f"links to {as_text(str(Path(entry.path).readlink()))}"
    return "not a regular file" if is_image(entry.name) else "no image extension"


def beside_the_classes(root: Path, split: str) -> Iterator[DataFinding]:
    """Yield findings about files outside class folders."""
    with os.scandir(root / split) as entries:
        for entry in entries:
            kind = kind_of(entry)
            if kind == "image":
                yield DataFinding("stray", f"{split}/{entry.name}", "not in a class folder")
            elif kind != "folder":
                yield DataFinding(kind, f"{split}/{entry.name}", what_is(entry))


def indices(root: Path, split: str) -> list[DataFinding]:
    """Replace cached indices that a run would use although the files differ, and return findings about them."""
    try:
        return [
            DataFinding("index", split, f"{as_text(str(place))} did not match the files and was replaced")
            for place in renew(root / split)
        ]
    except OSError as error:
        why = f"{as_text(str(error.filename))} does not match the files and cannot be removed ({error.strerror})"
        return [DataFinding("stale_index", split, f"{why}. Delete it")]
    except UserError:  # an unreadable folder or a link loop, which `listing` reports
        return []


def examine(folder: ClassFolder) -> list[DataFinding]:
    """Decode every image of a class, and return the findings."""
    return [DataFinding(kind, image, why) for image in folder.images for kind, why in oddities(folder.root / image)]


def as_text(path: str) -> str:
    """Return a path as valid text: bytes that are not UTF-8 are written as `\\xe4`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def off_counts(folders: list[ClassFolder]) -> Iterator[DataFinding]:
    """Yield findings about counts that differ from ImageNet's."""
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
    """Yield findings about classes that only one split has."""
    names = {split: {f.name for f in folders if f.split == split} for split in SPLITS}
    for split, other in (SPLITS, SPLITS[::-1]):
        for name in names[split] - names[other]:
            yield DataFinding("one_split_only", f"{split}/{name}", f"not in {other}/")


def summary(folders: list[ClassFolder]) -> dict[str, Any]:
    """Return the number of classes and images of a split, and its smallest and largest class."""
    by_size = sorted((len(f.images), as_text(f.name)) for f in folders)
    smallest, largest = ({"class": name, "images": count} for count, name in (by_size[0], by_size[-1]))
    images = sum(count for count, _ in by_size)
    return {"classes": len(folders), "images": images, "smallest": smallest, "largest": largest}
