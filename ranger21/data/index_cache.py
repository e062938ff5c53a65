"""The index of a split as a file, beside the data or in the user's cache directory where that cannot be written.

It holds as long as every folder is in the state in which it was read. A folder's time of modification alone does not
tell: `rsync -a`, `tar` and `shutil.copytree` set it back. That of the last change of any kind (ctime) nobody can set.
A file that is rewritten in place changes no folder: so one image of each class is looked at, too, and if its size is
another than before, everything is read anew. `verify_imagenet.py` compares all. Imports no torch.
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

VERSION = 3  # 2 knew the times of modification alone
SETTLED_SECONDS = 2  # a folder that changed later than that before it was read may change again unnoticed


@dataclass(frozen=True)
class Listed:
    """What the folders of a split held.

    Attributes:
        states: of the folders, by their paths below the split's, before they were read.
        began: when they were read, in seconds since 1970.
    """

    index: Index
    states: dict[str, State]
    began: float


def cache_files(split: Path) -> tuple[Path, ...]:
    """Where the index of a split is kept: beside the data, or else in the user's cache directory, if there is one."""
    name, beside = hashlib.sha256(os.fsencode(split.resolve())).hexdigest()[:16], split.parent
    places = [beside / f".{split.name}.index.npz"]
    with contextlib.suppress(UserError):
        places.append(cache_directory() / "index" / f"{name}.npz")
    return tuple(places)


def kept(place: Path, split: Path) -> Index | None:
    """The index kept at `place`, unless there is none, or one of another folder, or of what the folder was before."""
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
    except Exception:  # of whatever a damaged file can raise: it is made again
        return None


def keep(listed: Listed, split: Path) -> None:
    """Write the index to the first place that takes it, unless a folder has changed just now."""
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
