"""Finding and signalling the processes of a run (Linux only)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def children(pid: int) -> dict[int, str]:
    """Return the living child processes and their names."""
    known = {int(path.name): _known(path) for path in Path("/proc").glob("[0-9]*")}
    return {child: name for child, (name, parent) in known.items() if parent == pid}


def lives(pid: int, name: str) -> bool:
    """Return whether a process with this id and name is alive."""
    return _known(Path(f"/proc/{pid}"))[0] == name


def _known(process: Path) -> tuple[str, int]:
    """Return the name and parent of a process; an empty name if it does not exist or is a zombie."""
    try:
        name, rest = (process / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
    except OSError:
        return "", 0
    state, parent = rest.split()[:2]
    return ("", 0) if state == "Z" else (name, int(parent))


def one_of(pids: list[int], where: float) -> int:
    """Return the process chosen by `where` in [0, 1)."""
    return pids[int(where * len(pids))]


def send(number: signal.Signals, *pids: int) -> bool:
    """Send a signal to processes; return whether any of them existed."""
    sent = False
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
            sent = True
    return sent
