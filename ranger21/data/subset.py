"""Subsets that are the same on every machine: which classes and images belong to them, told by their names alone.

A class or an image is in a subset if the hash of its name is among the lowest. So a larger subset contains the smaller
ones, and neither the order of a directory nor the images beside it change what is chosen. Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

if TYPE_CHECKING:
    from ranger21.data.index import Index


def rank(name: bytes) -> bytes:
    """What names are ordered by."""
    return hashlib.blake2b(name, digest_size=8, person=b"ranger21").digest()


def choose_classes(classes: Sequence[str], wanted: int | list[str]) -> list[int]:
    """The labels of so many classes, or of the named ones. Raises a UserError for more or others than there are."""
    if isinstance(wanted, int):
        if wanted > len(classes):
            raise UserError(f"data.classes={wanted} is not possible: the data has {len(classes)} classes.")
        return sorted(sorted(range(len(classes)), key=lambda c: rank(os.fsencode(classes[c])))[:wanted])
    unknown = sorted(set(wanted) - set(classes))
    if unknown:
        raise UserError(
            f"data.classes names {first_few(unknown)}, of which the data has no class: name others, or none (null)."
        )
    return sorted(classes.index(name) for name in set(wanted))


def choose_holdout(labels: np.ndarray, names: Sequence[bytes], classes: Mapping[int, str], wanted: int) -> np.ndarray:
    """The numbers of so many images, ascending: of every class as many as of any other, or one more.

    Those of the lowest hashes, of other hashes than the subsets', and so are the classes that give one more. A larger
    holdout contains the smaller ones.

    Args:
        labels: of all images.
        names: of all images.
        classes: names by labels, of those classes that are chosen.

    Raises a UserError for fewer than one a class, and for a class that has none left for training.
    """
    each, more = divmod(wanted, len(classes))
    if not each:
        raise UserError(
            f"data.holdout={wanted} is not possible: it must be at least {len(classes)}, one image of every class."
        )
    lucky = sorted(classes, key=lambda label: _held_out(os.fsencode(classes[label])))[:more]
    held: list[int] = []
    for label, name in classes.items():
        own, share = np.flatnonzero(labels == label).tolist(), each + (label in lucky)
        if share >= len(own):
            raise UserError(
                f"data.holdout={wanted} is not possible: {share} of them would be of the class {name}, which has "
                f"{len(own)} training images and needs one more than are held out."
            )
        held += sorted(own, key=lambda image: _held_out(names[image]))[:share]
    return np.array(sorted(held), dtype=np.int64)


def _held_out(name: bytes) -> bytes:
    return rank(b"holdout\0" + name)


def digest_of_names(names: Sequence[bytes]) -> str:
    """Of which images these are, in whatever order."""
    return hashlib.sha256(b"\0".join(sorted(names))).hexdigest()[:16]


def choose_images(index: Index, classes: list[int], fraction: float, held: np.ndarray | None = None) -> np.ndarray:
    """The numbers of the images: of each class, less those that are held out, that fraction, rounded up."""
    images = np.flatnonzero(np.isin(index.labels, classes))
    if held is not None:
        images = np.setdiff1d(images, held, assume_unique=True)
    if fraction == 1:
        return images
    paths, kept = index.all_paths(), []
    for label in classes:
        own = images[index.labels[images] == label]
        count = int(np.ceil(round(len(own) * fraction, 6)))
        kept.append(np.array(sorted(sorted(own, key=lambda i: rank(paths[i]))[:count]), dtype=np.int64))
    return np.concatenate(kept)
