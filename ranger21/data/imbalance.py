"""Training sets of which some classes are rare: class frequencies by Zipf's law, the same on every machine.

Which class is the most frequent, the second, … is a pure function of the seed and of the classes' names; which of its
images a class keeps, one of their names. So a steeper law keeps some of the images of a flatter one. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ranger21.data.subset import rank


class Thinned:
    """Some images of a source, by ascending number, numbered anew.

    Args:
        source: pictures with labels, by index.
        kept: int64 (n,), their numbers in the source.
    """

    def __init__(self, source: Any, kept: np.ndarray) -> None:
        self.source, self.kept, self.labels = source, kept, source.labels[kept]

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, image: int) -> tuple[Any, int]:
        return self.source[int(self.kept[image])]


def by_frequency(classes: Sequence[str], seed: int) -> list[int]:
    """Return the labels of the classes, the most frequent one first."""
    return sorted(range(len(classes)), key=lambda label: rank(b"%d/" % seed + os.fsencode(classes[label])))


def zipf(images: int, classes: int, exponent: float) -> list[int]:
    """Return how many images each class keeps, the most frequent one, which keeps all of `images`, first."""
    return [max(1, int(round(images / place**exponent, 6))) for place in range(1, classes + 1)]


def choose_zipf(
    labels: np.ndarray, name: Callable[[int], bytes], classes: Sequence[str], exponent: float, seed: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Choose images so that the class of rank r has as many as the smallest class has now, divided by r^exponent.

    The smallest, so that any class can have any rank, and every seed gives a training set of the same size.

    Args:
        labels: (images,), the class of each.
        name: of an image by its number, which tells it from all others.
        classes: their names, by label.
        exponent: of Zipf's law, above 0.
        seed: of the classes' ranks.

    Returns:
        The numbers of the chosen images, ascending, and how many each class keeps, the most frequent one first.
    """
    ranked = by_frequency(classes, seed)
    counts = zipf(int(np.bincount(labels, minlength=len(classes)).min()), len(classes), exponent)
    chosen = [
        sorted(np.flatnonzero(labels == label).tolist(), key=lambda image: rank(name(image)))[:count]
        for label, count in zip(ranked, counts, strict=True)
    ]
    kept = {classes[label]: len(own) for label, own in zip(ranked, chosen, strict=True)}
    return np.array(sorted(image for own in chosen for image in own), dtype=np.int64), kept
