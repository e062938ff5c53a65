"""Cached indices of splits: a file beside the data, or in the user's cache directory if that is not writable. No torch.

A cached index is valid while every folder is in the same state. The modification time of a folder is not sufficient,
because `rsync -a`, `tar` and `shutil.copytree` restore it, so the state includes the time of the last change of any
kind (ctime), which cannot be set. Rewriting a file in place does not change its folder, so the size of one image per
class is compared as well; if it differs, the whole split is read again. `verify_imagenet.py` compares all images.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ranger21.data.index import Index
from ranger21.data.layout import cache_directory
from ranger21.data.listing import State, size_of, state_of
from ranger21.data.npz import load_arrays
from ranger21.system.errors import UserError
from ranger21.system.files import replacing

VERSION = 3  # version 2 had only modification times
SETTLED_SECONDS = 2  # a folder that changed less than this before it was read may change again unnoticed


@dataclass(frozen=True)
class Listed:
    """The index of a split as just read from its folders.

    Attributes:
        index: The index.
        states: State of each folder before it was read, by its path below the split.
        began: Start of reading, in seconds since 1970.
    """

    index: Index
    states: dict[str, State]
    began: float


def cache_files(split: Path) -> tuple[Path, ...]:
    """Return the possible places of a cached index: beside the data, and in the user's cache directory if it exists."""
    name, beside = hashlib.sha256(os.fsencode(split.resolve())).hexdigest()[:16], split.parent
    places = [beside / f".{split.name}.index.npz"]
    with contextlib.suppress(UserError):
        places.append(cache_directory() / "index" / f"{name}.npz")
    return tuple(places)


def kept(place: Path, split: Path) -> Index | None:
    """Return the index cached at `place`, or None if it is missing, damaged, outdated or that of another folder."""
    try:
        arrays = load_arrays(place, ("facts", "counts", "paths", "sizes"))
        facts: dict[str, Any] = json.loads(str(arrays["facts"]))
        if facts["version"] != VERSION or facts["split"] != split.name:
            return None
        sizes = arrays["sizes"]
        index = Index(tuple(facts["classes"]), arrays["counts"], arrays["paths"], sizes, tuple(facts["left_out"]))
        names, states = list(facts["folders"]), list(facts["folders"].values())
        with ThreadPoolExecutor(16) as pool:
            now = list(pool.map(lambda name: list(state_of((split / name).stat())), names))
            whole = len(index) == len(sizes) == index.counts.sum() and len(index.classes) == len(index.counts)
            if now != states or not whole or not index.leads_below():
                return None
            ends = np.cumsum(index.counts)[index.counts > 0]
            looked_at = ends - 1 - index.counts[index.counts > 0] // 2
            sizes_now = list(pool.map(lambda image: size_of(split / index.path(int(image))), looked_at))
        return index if sizes_now == sizes[looked_at].tolist() else None
    except Exception:  # a damaged file can raise anything; the index is made again
        return None


def keep(listed: Listed, split: Path) -> None:
    """Write the index to the first writable place, unless a folder was changed too recently."""
    if max(max(state[:2]) for state in listed.states.values()) >= (listed.began - SETTLED_SECONDS) * 1e9:
        return
    facts: dict[str, Any] = {"version": VERSION, "split": split.name, "classes": listed.index.classes}
    facts |= {"folders": listed.states, "left_out": listed.index.left_out}
    for place in cache_files(split):
        with contextlib.suppress(OSError, UserError):
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as new, new.open("wb") as file:
                np.savez(file, facts=np.array(json.dumps(facts)), **listed.index.arrays())
            return
