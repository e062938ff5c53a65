"""Which images there are, in compact arrays: 1,281,167 of them in some 70 MB that processes share. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Index:
    """The images of a split, class by class.

    Attributes:
        classes: their names, sorted; an image's label is its class's place here.
        counts: int64 (classes,), images of each class.
        paths: uint8, the images' paths below the split's folder, CLASS/NAME, each ended by a zero byte.
        sizes: int64 (images,), each file's bytes, -1 for a link that leads nowhere; None if they are not known, as in
            packs of version 1.
        left_out: sentences about what else lies in the split's folder, without their subject.
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
        """int32 (images,)"""
        return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

    def path(self, image: int) -> str:
        begin = int(self._ends[image - 1]) + 1 if image else 0
        return os.fsdecode(self.paths[begin : int(self._ends[image])].tobytes())

    def all_paths(self) -> list[bytes]:
        return self.paths.tobytes().split(b"\0")[:-1]

    def arrays(self) -> dict[str, Any]:
        """Return what a file keeps of it, beside the names of the classes."""
        known = {} if self.sizes is None else {"sizes": self.sizes}
        return {"counts": self.counts, "paths": self.paths} | known

    def leads_below(self) -> bool:
        """Return whether the paths lead to what lies below a folder, and nowhere else."""
        if not len(self.paths) or self.paths[-1]:
            return not len(self.paths)
        first = self.paths[np.concatenate([[0], self._ends[:-1] + 1])]
        dots = self.paths == ord(".")
        if ((first == 0) | (first == ord("/"))).any():
            return False
        return not (dots[1:] & dots[:-1]).any() or not any(b".." in path.split(b"/") for path in self.all_paths())

    def same_as(self, other: Index) -> bool:
        """Return whether the images are the same, by class, name and size."""
        pairs = ((self.arrays(), other.arrays()), (other.arrays(), self.arrays()))
        same = all(np.array_equal(array, there.get(name, ())) for own, there in pairs for name, array in own.items())
        return same and self.classes == other.classes

    def select(self, images: np.ndarray, classes: list[int]) -> Index:
        """Some images, by ascending number, of some classes, which are numbered anew."""
        paths = self.all_paths()
        counts = np.bincount(self.labels[images], minlength=len(self.classes))[classes]
        chosen = b"".join(paths[i] + b"\0" for i in images)
        sizes = None if self.sizes is None else self.sizes[images]
        return Index(tuple(self.classes[c] for c in classes), counts, np.frombuffer(chosen, np.uint8), sizes)
