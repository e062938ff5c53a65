"""What is done to a run: to its processes, and between them to its files. Linux alone has all of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from pathlib import Path

from ranger21.checkpoint_file import Damaged, State, read
from ranger21.faults import plan

NUMBERS = {plan.SIGKILL: signal.SIGKILL, plan.SIGTERM: signal.SIGTERM, plan.SIGUSR1: signal.SIGUSR1}


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


def hit(kind: str, ranks: list[int], where: float, directory: Path) -> bool:
    """Does it to the processes of a run; False if there was nothing to be hit."""
    if kind == plan.DISK_FULL:
        return _fill_the_disk(ranks[0], where, directory)
    if kind == plan.RANK_KILLED:
        return _send(signal.SIGKILL, [_one_of(ranks, where)])
    if kind in (plan.WORKER_KILLED, plan.WANDB_KILLED):
        wandb = kind == plan.WANDB_KILLED
        victims = [pid for rank in ranks for pid, name in children(rank).items() if name.startswith("wandb") == wandb]
        return bool(victims) and _send(signal.SIGKILL, [_one_of(sorted(victims), where)])
    alone = kind != plan.SIGKILL and where < 0.5  # a scheduler may tell one rank or all; a node goes down as a whole
    return _send(NUMBERS[kind], [_one_of(ranks, 2 * where)] if alone else ranks)


def _one_of(pids: list[int], where: float) -> int:
    return pids[int(where * len(pids))]


def _send(number: signal.Signals, pids: list[int]) -> bool:
    sent = False
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
            sent = True
    return sent


def _fill_the_disk(pid: int, where: float, directory: Path) -> bool:
    """From now on no file of the process can be larger than a part of its checkpoint: a write fails in its middle."""
    last = directory / "checkpoints" / "last.pt"
    size = last.stat().st_size if last.exists() else 100_000
    try:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (int(0.95 * where * size), resource.RLIM_INFINITY))
    except OSError:  # it has just ended
        return False
    return True


def whole(path: Path) -> State | None:
    """The checkpoint, if it is there and whole."""
    try:
        return read(path)
    except (OSError, Damaged):
        return None


def saved_step(directory: Path) -> int:
    """The step of the newest whole checkpoint, 0 without one."""
    states = (whole(directory / "checkpoints" / f"{name}.pt") for name in ("last", "previous"))
    return next((state["progress"]["step"] for state in states if state), 0)


def damage(kind: str, where: float, directory: Path) -> bool:
    """Does it to the files of a run that nobody runs just now; False if there is nothing that may be lost."""
    last, previous = (directory / "checkpoints" / f"{name}.pt" for name in ("last", "previous"))
    if kind == plan.TORN:
        return _tear(directory / "metrics.jsonl", whole(last) or whole(previous), where)
    if not (whole(last) and whole(previous)) or last.samefile(previous):
        return False
    place = int(where * last.stat().st_size)
    if kind == plan.CUT:
        os.truncate(last, place)
    else:
        with open(last, "r+b") as file:  # in its place, as a disk does it: best.pt may be the same file
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 1 << int(1e6 * where) % 8]))
    return True


def _tear(metrics: Path, state: State | None, where: float) -> bool:
    """What a crash of the machine may do to lines that no checkpoint knows of yet: cut, zeros, half a line."""
    if not metrics.exists():
        return False
    synced = state["metrics_size"] if state else 0
    if where < 1 / 3:
        os.truncate(metrics, synced + int(3 * where * max(0, metrics.stat().st_size - synced)))
    with open(metrics, "ab") as file:
        file.write(bytes(512) if where > 2 / 3 else b'{"step": 7, "train/lo')
    return True
