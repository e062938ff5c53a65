"""The images of a download in the order of a pack, which is that of the folders that prepare_imagenet.py writes."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from ranger21.data.index import Index
from ranger21.data.layout import SPLITS, common_classes
from ranger21.downloads.parts import ImagePart
from ranger21.system.errors import UserError
from ranger21.system.processes import in_parallel
from ranger21.system.wording import one_line

Part = TypeVar("Part", bound=ImagePart)


class PartImages(NamedTuple):
    """The images of a part.

    Attributes:
        places: Their places CLASS/NAME.
        numbers: What is known about each, int64 (images, …), of which the first column is the size in bytes.
    """

    places: list[str]
    numbers: np.ndarray


@dataclass(frozen=True)
class OrderedImages:
    """The images of a split in the order of a pack.

    Attributes:
        index: Their classes, names and sizes.
        part: The place of each image's part among all parts, int32 (images,).
        numbers: `PartImages.numbers` of each image.
    """

    index: Index
    part: np.ndarray
    numbers: np.ndarray


def in_order(source: Path, parts: Sequence[ImagePart], found: Sequence[PartImages]) -> dict[str, OrderedImages]:
    """Return the images of each split in order.

    Args:
        source: The download, for messages.
        parts: Its parts.
        found: The images of each part.

    Raises:
        UserError: If the splits do not have the same classes, or two images have the same name.
    """
    ordered = {split: _ordered(source, split, _of_split(split, parts, found)) for split in SPLITS}
    train, val = (ordered[split].index.classes for split in SPLITS)
    if len(common_classes(train, val, None, str(source))) < 2:
        raise UserError(f"{source} has only one class, {train[0]}. Training needs at least two.")
    return ordered


def _of_split(split: str, parts: Sequence[ImagePart], found: Sequence[PartImages]) -> Mapping[int, PartImages]:
    return {n: images for n, (part, images) in enumerate(zip(parts, found, strict=True)) if part.split == split}


def _ordered(source: Path, split: str, found: Mapping[int, PartImages]) -> OrderedImages:
    places = [tuple(place.split("/")) for images in found.values() for place in images.places]
    order = sorted(range(len(places)), key=places.__getitem__)
    part = np.repeat(np.array(list(found), np.int32), [len(images.places) for images in found.values()])
    numbers = np.concatenate([images.numbers for images in found.values()])[order]
    names = [places[image] for image in order]
    for name, following in pairwise(names):
        if name == following:
            twice = one_line("/".join(name))
            text = "It is not a single dataset, or has some files twice. Download it again into an empty folder"
            raise UserError(f"{source} has several images {split}/{twice}. {text}.")
    classes, counts = np.unique(np.array([wnid for wnid, _ in names]), return_counts=True)
    paths = np.frombuffer(b"".join(os.fsencode(f"{wnid}/{name}") + b"\0" for wnid, name in names), np.uint8)
    index = Index(tuple(map(str, classes)), counts.astype(np.int64), paths, np.ascontiguousarray(numbers[:, 0]))
    return OrderedImages(index, part[order], numbers)


def names_only(part: ImagePart) -> PartImages:
    """Return the names of a part's images, and 0 for the sizes, which may be unknown."""
    places = [place for place, _ in part.listing()]
    return PartImages(places, np.zeros((len(places), 1), np.int64))


def listed(parts: Sequence[Part], work: Callable[[Part], PartImages], processes: int) -> list[PartImages]:
    """Return what `work` finds in each part, in the order of the parts."""
    found = dict(in_parallel(work, parts, processes, "listing images", unit="{:,.0f} parts".format))
    return [found[part] for part in parts]
