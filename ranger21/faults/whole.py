"""Intact checkpoints, and the bytes of their files that belong to no tensor."""

from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

from ranger21.records.checkpoint_file import Damaged, State, read


def state(path: Path) -> State | None:
    """Read a checkpoint; return None if it is missing or damaged."""
    with contextlib.suppress(OSError, Damaged):
        return read(path)
    return None


def structure(path: Path) -> list[range]:
    """Return the ranges of a checkpoint's bytes that belong to no tensor: names, sizes, checksums, the pickle."""
    places, end = list[range](), 0
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
            if Path(entry.filename).parent.name != "data":
                continue
            file.seek(entry.header_offset + 26)
            lengths = int.from_bytes(file.read(2), "little") + int.from_bytes(file.read(2), "little")
            begin = entry.header_offset + 30 + lengths
            places.append(range(end, begin))
            end = begin + entry.compress_size
    return [*places, range(end, path.stat().st_size)]


def saved_step(directory: Path) -> int:
    """Return the step of the newest intact checkpoint of a run; 0 if there is none."""
    states = (state(directory / "checkpoints" / f"{name}.pt") for name in ("last", "previous"))
    return next((one["progress"]["step"] for one in states if one), 0)
