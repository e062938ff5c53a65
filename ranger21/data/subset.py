"""Reproducible subsets of classes and images, selected by names only. Imports no torch.

A subset consists of the classes or images whose names have the lowest hashes. A larger subset contains the smaller
ones, and the selection does not depend on the order of directories or on other images.
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
    """Return the hash by which names are ordered."""
    return hashlib.blake2b(name, digest_size=8, person=b"ranger21").digest()


def choose_classes(classes: Sequence[str], wanted: int | list[str]) -> list[int]:
    """Return the labels of the chosen classes, ascending.

    Args:
        classes: All class names.
        wanted: Number of classes, or their names.

    Raises:
        UserError: If there are fewer classes, or a name is unknown.
    """
    if isinstance(wanted, int):
        if wanted > len(classes):
            raise UserError(f"data.classes={wanted} is too large: the data has only {len(classes)} classes.")
        return sorted(sorted(range(len(classes)), key=lambda c: rank(os.fsencode(classes[c])))[:wanted])
    unknown = sorted(set(wanted) - set(classes))
    if unknown:
        raise UserError(
            f"data.classes names {first_few(unknown)}, which the data does not have. Choose other classes, or null."
        )
    return sorted(classes.index(name) for name in set(wanted))


def choose_holdout(labels: np.ndarray, names: Sequence[bytes], classes: Mapping[int, str], wanted: int) -> np.ndarray:
    """Return the indices of a balanced holdout, ascending; the numbers per class differ by at most one.

    The images with the lowest hashes are chosen, and likewise the classes that give one more. These hashes are
    independent of those for subsets. A larger holdout contains the smaller ones.

    Args:
        labels: Labels of all images.
        names: Names of all images.
        classes: Names of the chosen classes, by label.
        wanted: Number of images to hold out.

    Raises:
        UserError: If `wanted` is below the number of classes, or if no image of a class would remain for training.
    """
    each, more = divmod(wanted, len(classes))
    if not each:
        raise UserError(f"data.holdout={wanted} is too small: it must be at least {len(classes)}, one image per class.")
    larger = sorted(classes, key=lambda label: _held_out(os.fsencode(classes[label])))[:more]
    held: list[int] = []
    for label, name in classes.items():
        own, share = np.flatnonzero(labels == label).tolist(), each + (label in larger)
        if share >= len(own):
            raise UserError(
                f"data.holdout={wanted} is too large: it would hold out {share} images of the class {name}, which has "
                f"only {len(own)} training images. At least one must remain for training: lower data.holdout."
            )
        held += sorted(own, key=lambda image: _held_out(names[image]))[:share]
    return np.array(sorted(held), dtype=np.int64)


def _held_out(name: bytes) -> bytes:
    return rank(b"holdout\0" + name)


def digest_of_names(names: Sequence[bytes]) -> str:
    """Return a hash of a set of names, independent of their order."""
    return hashlib.sha256(b"\0".join(sorted(names))).hexdigest()[:16]


def choose_images(index: Index, classes: list[int], fraction: float, held: np.ndarray | None = None) -> np.ndarray:
    """Return the indices of the chosen images: the given fraction of each class, rounded up.

    Args:
        index: Index of all images.
        classes: Labels of the classes.
        fraction: Fraction of the images of each class.
        held: Indices of held-out images, which are excluded before the fraction is taken.
    """
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
