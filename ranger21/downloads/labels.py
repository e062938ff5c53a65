"""The classes of ImageNet's validation images, from whichever file gives them. Imports no torch."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ranger21.data.safe_open import read_file
from ranger21.downloads.devkit import DEVKIT, META, TRUTH, read_devkit
from ranger21.downloads.parts import reading
from ranger21.system.errors import UserError
from ranger21.system.wording import counted, one_line

CSV = "LOC_val_solution.csv"  # Kaggle's
ANNOTATIONS = "Annotations/CLS-LOC/val"  # Kaggle's, with an XML file for each image
STEM = r"ILSVRC2012_val_\d{8}"  # the name of a validation image
WNID = r"n\d{8}"
LARGEST_TABLE, LARGEST_ANNOTATION = 1 << 26, 1 << 22  # bytes, far more than the real ones have
WHICH_FILE = (
    f"They are not sorted by class. Put {DEVKIT} (from https://image-net.org) or {CSV} (from Kaggle's ImageNet "
    "Object Localization Challenge) into SOURCE; either lists their classes"
)


@dataclass(frozen=True)
class ValLabels:
    """The classes of validation images.

    Attributes:
        file: The file or folder that lists them.
        name: What it is called in the form.
        wnids: The class of each image, by its name without extension.
    """

    file: Path
    name: str
    wnids: Mapping[str, str]

    def require_exactly(self, images: Iterable[str], place: Path) -> None:
        """Raise a UserError unless the names of the images (without extension) are exactly those with a class."""
        names = list(images)
        what = f"{place} has {counted(len(names), 'validation image')}, but {self.file} has the classes of"
        range_of = f"the images {_number(min(self.wnids))} to {_number(max(self.wnids))}" if self.wnids else "none"
        if lacking := self.wnids.keys() - set(names):
            text = f"{len(lacking):,} are missing, such as {min(lacking)}.JPEG. Download or unpack the images again"
            raise UserError(f"{what} {range_of}: {text}.")
        if unknown := set(names) - self.wnids.keys():
            raise UserError(f"{what} {range_of}, without {one_line(min(unknown))}. Download both again.")
        if len(names) > len(self.wnids):
            raise UserError(f"{what} {range_of}: some images are there twice. Download it again.")


def _number(stem: str) -> int:
    return int(stem.rpartition("_")[2])


def find_labels(folders: Iterable[Path]) -> ValLabels | None:
    """Return the classes from the first of these that the folders have: development kit, CSV file, annotations."""
    folders = list(folders)
    for find in (_devkit, _table, _annotations):
        for folder in folders:
            if found := find(folder):
                return found
    return None


def _devkit(folder: Path) -> ValLabels | None:
    unpacked = (folder / TRUTH).is_file() and (folder / META).is_file()
    if not unpacked and not (folder / DEVKIT).exists():
        return None
    file = folder if unpacked else folder / DEVKIT
    return numbered(file, TRUTH.rpartition("/")[2] if unpacked else DEVKIT, read_devkit(file)[0])


def numbered(file: Path, name: str, truth: list[str]) -> ValLabels:
    """Return the classes of the validation images 1, 2, 3, …"""
    return ValLabels(file, name, {f"ILSVRC2012_val_{number:08d}": wnid for number, wnid in enumerate(truth, start=1)})


def _table(folder: Path) -> ValLabels | None:
    file = folder / CSV
    if not file.exists():
        return None
    with reading(file):
        return ValLabels(file, CSV, table_labels(read_file(file).tobytes()))


def table_labels(content: bytes) -> dict[str, str]:
    """Return the classes in Kaggle's LOC_val_solution.csv, which has the class of every object in each image."""
    if len(content) > LARGEST_TABLE:
        raise ValueError(f"it has more than {LARGEST_TABLE:,} bytes")
    rows = csv.reader(io.StringIO(content.decode()))
    if next(rows, None) != ["ImageId", "PredictionString"]:
        raise ValueError("its first line is not ImageId,PredictionString")
    labels: dict[str, str] = {}
    for row in rows:
        name, objects = row
        if name in labels:
            raise ValueError(f"{name} is listed twice")
        labels[name] = one_class(objects.split()[::5], name)
    if not labels:
        raise ValueError("it lists no image")
    return labels


def _annotations(folder: Path) -> ValLabels | None:
    place = folder / ANNOTATIONS
    if not place.is_dir():
        return None

    def contents() -> Iterator[tuple[str, bytes]]:
        for file in sorted(place.glob("*.xml")):
            with reading(file):
                yield file.stem, read_file(file).tobytes()

    return ValLabels(place, ANNOTATIONS, dict(annotated(contents(), place)))


def annotated(files: Iterable[tuple[str, bytes]], place: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the class of each image with an annotation.

    Args:
        files: The names without extension, and the contents, of the XML files.
        place: Where they are, for messages.
    """
    for name, content in files:
        with reading(place):
            if len(content) > LARGEST_ANNOTATION:
                raise ValueError(f"{name}.xml has more than {LARGEST_ANNOTATION:,} bytes")
            objects = re.findall(rb"<object>\s*<name>\s*([^<\s]{1,80})\s*</name>", content)
            yield name, one_class([found.decode("ascii", "replace") for found in objects], name)


def one_class(wnids: list[str], name: str) -> str:
    """Return the class of an image's objects, which must all have the same.

    Raises:
        ValueError: If the name is not that of a validation image, or the class is not a single wnid.
    """
    if not re.fullmatch(STEM, name, re.ASCII):
        raise ValueError(f"{one_line(name)} is not the name of a validation image")
    if len(set(wnids)) != 1 or not re.fullmatch(WNID, wnids[0], re.ASCII):
        what = "no class" if not wnids else f"the class {one_line(' and '.join(sorted(set(wnids))))}"
        raise ValueError(f"{name} has {what}, not a single wnid such as n01440764")
    return wnids[0]
