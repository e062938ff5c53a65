"""Imbalanced training sets: class frequencies by Zipf's law, the same on every machine. Imports no torch.

The ranking of the classes is a pure function of the seed and the class names. The images that a class keeps are a pure
function of their names, so a larger exponent keeps a subset of the images of a smaller one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ranger21.data.subset import rank


class Thinned:
    """A subset of a source.

    Args:
        source: Images with labels, by index.
        kept: Indices of the images to keep, int64 (n,), ascending.
    """

    def __init__(self, source: Any, kept: np.ndarray) -> None:
        self.source, self.kept, self.labels = source, kept, source.labels[kept]

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, image: int) -> tuple[Any, int]:
        return self.source[int(self.kept[image])]


def by_frequency(classes: Sequence[str], seed: int) -> list[int]:
    """Return the labels of the classes, from the most to the least frequent."""
    return sorted(range(len(classes)), key=lambda label: rank(b"%d/" % seed + os.fsencode(classes[label])))


def zipf(images: int, classes: int, exponent: float) -> list[int]:
    """Return the number of images per class, from the most frequent one (which keeps `images`) to the least."""
    return [max(1, int(round(images / place**exponent, 6))) for place in range(1, classes + 1)]


def choose_zipf(
    labels: np.ndarray, name: Callable[[int], bytes], classes: Sequence[str], exponent: float, seed: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Choose images so that the class of rank r keeps n / r^exponent, where n is the size of the smallest class.

    With n from the smallest class, any class can have any rank, and every seed gives a training set of the same size.

    Args:
        labels: Class of each image, shape (images,).
        name: Returns the unique name of an image from its index.
        classes: Class names by label.
        exponent: Exponent of Zipf's law, above 0.
        seed: Seed of the ranking of the classes.

    Returns:
        Indices of the chosen images, ascending, and the number of images per class, most frequent class first.
    """
    ranked = by_frequency(classes, seed)
    counts = zipf(int(np.bincount(labels, minlength=len(classes)).min()), len(classes), exponent)
    chosen = [
        sorted(np.flatnonzero(labels == label).tolist(), key=lambda image: rank(name(image)))[:count]
        for label, count in zip(ranked, counts, strict=True)
    ]
    kept = {classes[label]: len(own) for label, own in zip(ranked, chosen, strict=True)}
    return np.array(sorted(image for own in chosen for image in own), dtype=np.int64), kept
