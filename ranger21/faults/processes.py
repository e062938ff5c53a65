"""The processes of a run, found and signalled. Linux alone has all of it."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def children(pid: int) -> dict[int, str]:
    """The living child processes, each with its name."""
    known = {int(path.name): _known(path) for path in Path("/proc").glob("[0-9]*")}
    return {child: name for child, (name, parent) in known.items() if parent == pid}


def lives(pid: int, name: str) -> bool:
    """Whether there is such a process of this name."""
    return _known(Path(f"/proc/{pid}"))[0] == name


def _known(process: Path) -> tuple[str, int]:
    """Name and parent of a process; without a name if there is none, or it has ended and waits to be asked how."""
    try:
        name, rest = (process / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
    except OSError:
        return "", 0
    state, parent = rest.split()[:2]
    return ("", 0) if state == "Z" else (name, int(parent))


def one_of(pids: list[int], where: float) -> int:
    return pids[int(where * len(pids))]


def send(number: signal.Signals, *pids: int) -> bool:
    """Whether one of the processes was there to get the signal."""
    sent = False
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
            sent = True
    return sent
