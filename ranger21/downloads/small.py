"""Subsets of ImageNet with layouts of their own: Tiny-ImageNet-200, and ImageNet-100 from Kaggle. Imports no torch."""

import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from ranger21.data.names import is_plain
from ranger21.data.safe_open import read_file
from ranger21.downloads.labels import LARGEST_TABLE, WNID
from ranger21.downloads.loose import LeftOut, LooseImages, class_names, flat_parts, image_names, images_in, sorted_parts
from ranger21.downloads.parts import Download, reading
from ranger21.system.errors import UserError
from ranger21.system.wording import counted, first_few, one_line

TINY, TABLE = "tiny-imagenet-200", "val_annotations.txt"


def find_tiny(source: Path) -> Download | None:
    """Return Tiny-ImageNet in a folder or its subfolder tiny-imagenet-200, or None.

    Raises:
        UserError: If images are missing, or the list of the validation images does not match.
    """
    for folder in (source, source / TINY):
        if (folder / "val" / TABLE).is_file() and (folder / "train").is_dir():
            return _tiny(folder)
    return None


def _tiny(folder: Path) -> Download:
    odd, table, place = LeftOut(), folder / "val" / TABLE, folder / "val" / "images"
    classes = class_names(folder / "train")
    if lacking := [wnid for wnid in classes if not (folder / "train" / wnid / "images").is_dir()]:
        raise UserError(f"{folder / 'train' / lacking[0]} has no folder images/. Download or unpack the images again.")
    train = sorted_parts([folder / "train"], "train", odd, inner="images")
    if (folder / "wnids.txt").is_file():
        _require_listed(folder / "wnids.txt", (folder / "wnids.txt").read_text().split(), train, "train")
    with reading(table):
        wnids = _table(read_file(table).tobytes())
    there = set(image_names(place, odd)) if place.is_dir() else set()
    if lacking := sorted(wnids.keys() ^ there):
        which = "lists, but it is not in" if lacking[0] in wnids else "does not list, but it is in"
        text = f"{one_line(lacking[0])}, which {table} {which} {place}"
        raise UserError(f"{counted(len(lacking), 'validation image')}, such as {text}. Download or unpack them again.")
    val = flat_parts(place, wnids, "val")
    count = f"{images_in(train):,} + {images_in(val):,} images of {len(classes):,} classes"
    return Download("Tiny-ImageNet's layout", count, TABLE, [*train, *val], odd.notes())


def _table(content: bytes) -> dict[str, str]:
    """Return the classes in Tiny-ImageNet's list: file name, wnid and box in each line."""
    if len(content) > LARGEST_TABLE:
        raise ValueError(f"it has more than {LARGEST_TABLE:,} bytes")
    wnids: dict[str, str] = {}
    for number, line in enumerate(content.decode().splitlines(), start=1):
        name, wnid, *_ = [*line.split("\t"), ""]
        if not is_plain(name) or not re.fullmatch(WNID, wnid, re.ASCII) or name in wnids:
            raise ValueError(f"line {number} is not a new file name and a wnid")
        wnids[name] = wnid
    return wnids


def find_hundred(source: Path) -> Download | None:
    """Return Kaggle's ImageNet-100 (train.X1 … train.X4, val.X, Labels.json), or None.

    Raises:
        UserError: If val.X, or images of a class in Labels.json, are missing.
    """
    train = sorted(place for place in source.glob("train.X*") if place.is_dir())
    if not train:
        return None
    if not (source / "val.X").is_dir():
        raise UserError(f"{source} has {train[0].name}, but not val.X. Download it as well.")
    odd = LeftOut()
    parts = {"train": sorted_parts(train, "train", odd), "val": sorted_parts([source / "val.X"], "val", odd)}
    file = source / "Labels.json"
    if file.is_file():
        with reading(file):
            listed = [str(wnid) for wnid in json.loads(read_file(file).tobytes())]
        for split, of_split in parts.items():
            _require_listed(file, listed, of_split, split)
    folders = first_few([place.name for place in train], 10)
    count = f"{images_in(parts['train']):,} + {images_in(parts['val']):,} images in {folders} and val.X"
    return Download(
        "ImageNet-100's layout", count, "the names of the folders", [*parts["train"], *parts["val"]], odd.notes()
    )


def _require_listed(file: Path, listed: Collection[str], parts: Iterable[LooseImages], split: str) -> None:
    if lacking := sorted(set(listed) - {part.wnid for part in parts if part.contents}):
        text = f"images of {first_few(lacking)}, which {file} lists. Download or unpack them again"
        raise UserError(f"There are no {split} {text}.")
