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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ranger21.data.layout import cache_directory, class_folders, is_folder
from ranger21.errors import UserError

VERSION = 2
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's ImageFolder's
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
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    paths: np.ndarray
    sizes: np.ndarray | None = None

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


def read_index(split: Path) -> Index:
    """The images below `split`, from the cache if it still holds. Raises a UserError for an empty class."""
    places = cache_files(split)
    for place in places:
        index = _cached(place, split)
        if index is not None:
            return index
    began = time.time()
    classes = class_folders(split)
    with ThreadPoolExecutor(16) as pool:  # waiting for the disk is most of it
        found = dict(zip(classes, pool.map(lambda name: _walk(split / name), classes), strict=True))
    for name, (files, _) in found.items():
        if not files:
            raise UserError(f"{split / name} has no images ({', '.join(EXTENSIONS)}): fill it or remove it.")
    paths = b"".join(os.fsencode(f"{name}/{file}") + b"\0" for name, (files, _) in found.items() for file, _ in files)
    counts = np.array([len(files) for files, _ in found.values()], dtype=np.int64)
    sizes = np.array([size for files, _ in found.values() for _, size in files], dtype=np.int64)
    index = Index(tuple(classes), counts, np.frombuffer(paths, np.uint8), sizes)
    times = {"": split.stat().st_mtime_ns}
    for name, (_, folders) in found.items():
        times |= {f"{name}/{folder}": mtime for folder, mtime in folders.items()}
    if max(times.values()) < (began - SETTLED_SECONDS) * 1e9:
        _keep(index, times, places, split)
    return index


def cache_files(split: Path) -> tuple[Path, Path]:
    """Where the index of a split is kept: beside the data, or else in the user's cache directory."""
    name = hashlib.sha256(os.fsencode(split.resolve())).hexdigest()[:16]
    return split.parent / f".{split.name}.index.npz", cache_directory() / "index" / f"{name}.npz"


def _walk(top: Path) -> tuple[list[tuple[str, int]], dict[str, int]]:
    """The images below a folder with their sizes, in the order of torchvision's ImageFolder, and the folders' times."""
    images: list[tuple[str, int]] = []
    folders: dict[str, int] = {}
    for folder, mtime, files in sorted(_folders(top, "", ()), key=lambda found: found[0].rstrip("/")):
        folders[folder] = mtime
        images += [(folder + name, size) for name, size in sorted(files)]
    return images, folders


def _folders(
    top: Path, below: str, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[str, int, list[tuple[str, int]]]]:
    """The folders below `top`, each with its modification time and the names and sizes of its images."""
    place = top / below
    try:
        state = place.stat()
        if (state.st_dev, state.st_ino) in above:
            raise UserError(f"{place} is a symbolic link to a folder that holds it: remove the link.")
        with os.scandir(place) as entries:
            files: list[tuple[str, int]] = []
            inner: list[str] = []
            for entry in entries:
                if is_folder(entry):
                    inner.append(entry.name)
                elif entry.name.lower().endswith(EXTENSIONS) and (entry.is_symlink() or entry.is_file()):
                    files.append((entry.name, _size(entry)))
    except OSError as error:
        raise UserError(f"{place} cannot be read ({error.strerror}): see to its permissions.") from error
    yield below, state.st_mtime_ns, files
    for name in sorted(inner):
        yield from _folders(top, f"{below}{name}/", (*above, (state.st_dev, state.st_ino)))


def _size(file: os.DirEntry[str] | Path) -> int:
    """-1 if it cannot be told: a broken link is an error when it is read."""
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _cached(place: Path, split: Path) -> Index | None:
    """The index kept at `place`, unless there is none, or one of another folder, or of what the folder was before."""
    try:
        with np.load(place, allow_pickle=False) as arrays:
            facts: dict[str, Any] = json.loads(str(arrays["facts"]))
            if facts["version"] != VERSION or facts["split"] != split.name:
                return None
            sizes = arrays["sizes"]
            index = Index(tuple(facts["classes"]), arrays["counts"], arrays["paths"], sizes)
        names, times = list(facts["times"]), list(facts["times"].values())
        with ThreadPoolExecutor(16) as pool:
            now = list(pool.map(lambda name: (split / name).stat().st_mtime_ns, names))
            if now != times or not len(index) == len(sizes) == index.counts.sum():
                return None
            looked_at = np.cumsum(index.counts) - 1 - index.counts // 2
            sizes_now = list(pool.map(lambda image: _size(split / index.path(int(image))), looked_at))
        return index if sizes_now == sizes[looked_at].tolist() else None
    except Exception:  # of whatever a damaged file can raise: it is made again
        return None


def _keep(index: Index, times: dict[str, int], places: tuple[Path, Path], split: Path) -> None:
    facts = {"version": VERSION, "split": split.name, "classes": index.classes, "times": times}
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
