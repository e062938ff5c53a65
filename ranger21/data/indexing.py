"""Find the images of a split, from a cached index or by walking its folders. Imports no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ranger21.data.index import Index
from ranger21.data.index_cache import Listed, cache_files, keep, kept
from ranger21.data.layout import class_folders
from ranger21.data.listing import sorted_out, state_of, walk
from ranger21.data.names import EXTENSIONS, endings, left_out
from ranger21.system.errors import UserError


def read_index(split: Path, wanted: Sequence[str] | None = None) -> Index:
    """Return the images below `split`, from a cached index if it is valid.

    Args:
        split: Folder of the split.
        wanted: Names of the classes that must have images; None for all.

    Raises:
        UserError: If a wanted class has no images, or a folder cannot be read.
    """
    places = cache_files(split)
    index = next((index for index in (kept(place, split) for place in places) if index is not None), None)
    if index is None:
        listed = list_images(split)
        index = listed.index
        keep(listed, split)
    for name, count in zip(index.classes, index.counts, strict=True):
        if not count and (wanted is None or name in wanted):
            others = walk(split / name).others
            there = f", but {endings(others)}" if others else ""
            raise UserError(f"{split / name} has no images ({', '.join(EXTENSIONS)}){there}. Fill it or remove it.")
    return index


def list_images(split: Path) -> Listed:
    """Read the folders of a split; raise a UserError if one cannot be read completely."""
    began, state = time.time(), state_of(split.stat())
    classes = class_folders(split)
    with ThreadPoolExecutor(16) as pool:  # most of the time is spent waiting for the disk
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
    states = {"": state}
    for name, below in found.items():
        states |= {f"{name}/{folder}": state for folder, state in below.states.items()}
    return Listed(index, states, began)


def renew(split: Path) -> list[Path]:
    """Compare the valid cached indices of a split with its files, replace wrong ones, and return their paths.

    Raises:
        OSError: If a wrong index cannot be removed.
        UserError: If a folder cannot be read.
    """
    listed = list_images(split)
    found = ((place, kept(place, split)) for place in cache_files(split))
    wrong = [place for place, index in found if index is not None and not index.same_as(listed.index)]
    for place in wrong:
        place.unlink()
    if wrong:
        keep(listed, split)
    return wrong
