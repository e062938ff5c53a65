"""Subsets that are the same on every machine: which classes and images belong to them, told by their names alone.

A class or an image is in a subset if the hash of its name is among the lowest. So a larger subset contains the smaller
ones, and neither the order of a directory nor the images beside it change what is chosen. Imports no torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ranger21.errors import UserError
from ranger21.wording import first_few

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


def choose_images(index: Index, classes: list[int], fraction: float) -> np.ndarray:
    """The numbers of the images: of each class that fraction, rounded up."""
    images = np.flatnonzero(np.isin(index.labels, classes))
    if fraction == 1:
        return images
    paths, kept = index.all_paths(), []
    for label in classes:
        own = images[index.labels[images] == label]
        count = int(np.ceil(round(len(own) * fraction, 6)))
        kept.append(np.array(sorted(sorted(own, key=lambda i: rank(paths[i]))[:count]), dtype=np.int64))
    return np.concatenate(kept)
