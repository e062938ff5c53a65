"""Which images there are, in compact arrays: 1,281,167 of them in some 70 MB that processes share. Imports no torch.

The folders are walked once, and every image's size in bytes is noted. What was found is cached beside the data (or in
the user's cache directory where that cannot be written) and holds as long as no folder's modification time has
changed. A file that is rewritten in place changes no folder: so one image of each class is looked at, too, and if its
size is another than before, everything is read anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ranger21.data.layout import cache_directory, class_folders
from ranger21.data.listing import size_of, sorted_out, walk
from ranger21.data.names import EXTENSIONS, endings, left_out
from ranger21.errors import UserError

VERSION = 2
SETTLED_SECONDS = 2  # a folder that changed later than that before it was read may change again unnoticed


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
        """What a file keeps of it, beside the names of the classes."""
        known = {} if self.sizes is None else {"sizes": self.sizes}
        return {"counts": self.counts, "paths": self.paths} | known

    def select(self, images: np.ndarray, classes: list[int]) -> Index:
        """Some images, by ascending number, of some classes, which are numbered anew."""
        paths = self.all_paths()
        counts = np.bincount(self.labels[images], minlength=len(self.classes))[classes]
        chosen = b"".join(paths[i] + b"\0" for i in images)
        sizes = None if self.sizes is None else self.sizes[images]
        return Index(tuple(self.classes[c] for c in classes), counts, np.frombuffer(chosen, np.uint8), sizes)


def read_index(split: Path, wanted: Sequence[str] | None = None) -> Index:
    """The images below `split`, from the cache if it still holds.

    Raises a UserError for a class without images, if it is one of those that are wanted (None: all).
    """
    places = cache_files(split)
    cached = (_cached(place, split) for place in places)
    index = next((index for index in cached if index is not None), None) or _listed(split, places)
    for name, count in zip(index.classes, index.counts, strict=True):
        if not count and (wanted is None or name in wanted):
            others = walk(split / name).others
            there = f", but {endings(others)}" if others else ""
            raise UserError(f"{split / name} has no images ({', '.join(EXTENSIONS)}){there}: fill it or remove it.")
    return index


def _listed(split: Path, places: tuple[Path, ...]) -> Index:
    """The index of the files that there are; it is kept unless a folder has changed just now."""
    began = time.time()
    classes = class_folders(split)
    with ThreadPoolExecutor(16) as pool:  # waiting for the disk is most of it
        found = dict(zip(classes, pool.map(lambda name: walk(split / name), classes), strict=True))
    paths = b"".join(os.fsencode(f"{name}/{file}") + b"\0" for name, below in found.items() for file, _ in below.images)
    counts = np.array([len(below.images) for below in found.values()], dtype=np.int64)
    sizes = np.array([size for below in found.values() for _, size in below.images], dtype=np.int64)
    beside = sorted_out(split)
    hidden = [*beside.hidden, *(f"{name}/{file}" for name, below in found.items() for file in below.hidden)]
    others = [f"{name}/{file}" for name, below in found.items() for file in below.others]
    stray = [*(name for name, _ in beside.images), *beside.others]
    words = tuple(left_out(hidden, others, stray))
    index = Index(tuple(classes), counts, np.frombuffer(paths, np.uint8), sizes, words)
    times = {"": split.stat().st_mtime_ns}
    for name, below in found.items():
        times |= {f"{name}/{folder}": time for folder, time in below.times.items()}
    if max(times.values()) < (began - SETTLED_SECONDS) * 1e9:
        _keep(index, times, places, split)
    return index


def cache_files(split: Path) -> tuple[Path, ...]:
    """Where the index of a split is kept: beside the data, or else in the user's cache directory, if there is one."""
    name, beside = hashlib.sha256(os.fsencode(split.resolve())).hexdigest()[:16], split.parent
    places = [beside / f".{split.name}.index.npz"]
    with contextlib.suppress(UserError):
        places.append(cache_directory() / "index" / f"{name}.npz")
    return tuple(places)


def _cached(place: Path, split: Path) -> Index | None:
    """The index kept at `place`, unless there is none, or one of another folder, or of what the folder was before."""
    try:
        with np.load(place, allow_pickle=False) as arrays:
            facts: dict[str, Any] = json.loads(str(arrays["facts"]))
            if facts["version"] != VERSION or facts["split"] != split.name:
                return None
            sizes = arrays["sizes"]
            index = Index(tuple(facts["classes"]), arrays["counts"], arrays["paths"], sizes, tuple(facts["left_out"]))
        names, times = list(facts["times"]), list(facts["times"].values())
        with ThreadPoolExecutor(16) as pool:
            now = list(pool.map(lambda name: (split / name).stat().st_mtime_ns, names))
            if now != times or not len(index) == len(sizes) == index.counts.sum():
                return None
            ends = np.cumsum(index.counts)[index.counts > 0]
            looked_at = ends - 1 - index.counts[index.counts > 0] // 2
            sizes_now = list(pool.map(lambda image: size_of(split / index.path(int(image))), looked_at))
        return index if sizes_now == sizes[looked_at].tolist() else None
    except Exception:  # of whatever a damaged file can raise: it is made again
        return None


def _keep(index: Index, times: dict[str, int], places: tuple[Path, ...], split: Path) -> None:
    facts = {"version": VERSION, "split": split.name, "classes": index.classes, "times": times}
    facts["left_out"] = index.left_out
    for place in places:
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".index-", delete=False) as file:
                try:
                    np.savez(file, facts=np.array(json.dumps(facts)), **index.arrays())
                    file.flush()
                    os.fchmod(file.fileno(), 0o644)
                    os.replace(file.name, place)
                    return
                except BaseException:
                    Path(file.name).unlink()
                    raise
