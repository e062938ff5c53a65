"""The images of a split in compact arrays that processes share: about 70 MB for ImageNet's 1,281,167. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Index:
    """The images of a split, ordered by class.

    Attributes:
        classes: Sorted class names; an image's label is the position of its class.
        counts: Number of images per class, int64 (classes,).
        paths: Paths of the images below the split's folder, CLASS/NAME, each ended by a zero byte; uint8.
        sizes: Size of each file in bytes, int64 (images,), with -1 for a broken link; None if unknown, as in packs of
            version 1.
        left_out: Messages about other files in the split's folder, each without the folder's path, which the caller
            puts in front.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    paths: np.ndarray
    sizes: np.ndarray | None = None
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self._ends)

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.flatnonzero(self.paths == 0)

    @cached_property
    def labels(self) -> np.ndarray:
        """Label of each image, int32 (images,)."""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    def path(self, image: int) -> str:
        """Return the path of an image below the split's folder."""
        begin = int(self._ends[image - 1]) + 1 if image else 0
        return os.fsdecode(self.paths[begin : int(self._ends[image])].tobytes())

    def all_paths(self) -> list[bytes]:
        """Return the paths of all images."""
        return self.paths.tobytes().split(b"\0")[:-1]

    def arrays(self) -> dict[str, Any]:
        """Return the arrays to store in a file, in addition to the class names."""
        known = {} if self.sizes is None else {"sizes": self.sizes}
        return {"counts": self.counts, "paths": self.paths} | known

    def leads_below(self) -> bool:
        """Return whether all paths stay below the split's folder."""
        if not len(self.paths) or self.paths[-1]:
            return not len(self.paths)
        first = self.paths[np.concatenate([[0], self._ends[:-1] + 1])]
        dots = self.paths == ord(".")
        if ((first == 0) | (first == ord("/"))).any():
            return False
        return not (dots[1:] & dots[:-1]).any() or not any(b".." in path.split(b"/") for path in self.all_paths())

    def same_as(self, other: Index) -> bool:
        """Return whether the images are the same by class, name and size."""
        pairs = ((self.arrays(), other.arrays()), (other.arrays(), self.arrays()))
        same = all(np.array_equal(array, there.get(name, ())) for own, there in pairs for name, array in own.items())
        return same and self.classes == other.classes

    def select(self, images: np.ndarray, classes: list[int]) -> Index:
        """Return the index of a subset, in which images and classes are renumbered.

        Args:
            images: Indices of the images to keep, ascending.
            classes: Labels of the classes to keep.
        """
        paths = self.all_paths()
        counts = np.bincount(self.labels[images], minlength=len(self.classes))[classes]
        chosen = b"".join(paths[i] + b"\0" for i in images)
        sizes = None if self.sizes is None else self.sizes[images]
        return Index(tuple(self.classes[c] for c in classes), counts, np.frombuffer(chosen, np.uint8), sizes)
