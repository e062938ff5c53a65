"""Finds the images of a split: in the index that is kept of it, or by walking its folders. Imports no torch."""

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
    """The images below `split`, from the cache if it still holds.

    Raises a UserError for a class without images, if it is one of those that are wanted (None: all).
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
            raise UserError(f"{split / name} has no images ({', '.join(EXTENSIONS)}){there}: fill it or remove it.")
    return index


def list_images(split: Path) -> Listed:
    """The index of the files that there are. Raises a UserError for a folder that cannot be read to its end."""
    began, state = time.time(), state_of(split.stat())
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
    states = {"": state}
    for name, below in found.items():
        states |= {f"{name}/{folder}": state for folder, state in below.states.items()}
    return Listed(index, states, began)


def renew(split: Path) -> list[Path]:
    """Compare the indices that a start would take with the files that there are, and make them anew if they are wrong.

    Returns those that were wrong. Raises an OSError if one cannot be removed, and a UserError as `list_images` does.
    """
    listed = list_images(split)
    found = ((place, kept(place, split)) for place in cache_files(split))
    wrong = [place for place, index in found if index is not None and not index.same_as(listed.index)]
    for place in wrong:
        place.unlink()
    if wrong:
        keep(listed, split)
    return wrong
