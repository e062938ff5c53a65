"""Faults that a started command injects into itself: failing reads, a wrong clock, its own death. Imports no torch.

The environment variable ORDERS holds them as JSON.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ranger21.system.project import TRAIN

ORDERS = "RANGER21_FAULT_ORDERS"
Order = dict[str, Any]


def obey() -> None:
    """Install the faults that ORDERS describes."""
    for order in json.loads(os.environ.get(ORDERS, "[]")):
        for name, do in (("unreadable", unreadable), ("clock", set_back), ("die_before", die_before)):
            if name in order:
                do(order)


class Failing(io.FileIO):
    """File whose first reads fail with EIO."""

    left = 0  # number of reads that will still fail, over all such files of this process

    def _fail(self) -> None:
        if Failing.left > 0:
            Failing.left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), self.name)

    def readinto(self, buffer: Any) -> Any:
        self._fail()
        return super().readinto(buffer)

    def readall(self) -> Any:
        self._fail()
        return super().readall()

    def read(self, size: int | None = -1) -> Any:
        self._fail()
        return super().read(size)


def unreadable(order: Order) -> None:
    """Make the first `times` reads of a file fail with EIO, however Python opens it."""
    Failing.left, path, real, real_fd = order["times"], order["unreadable"], io.open, os.open

    def opened(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        ours = not isinstance(file, int) and os.fspath(file) in (path, os.fsencode(path))
        if not ours or mode != "rb":
            return real(file, mode, *args, **more)
        return io.BufferedReader(Failing(file))

    def opened_fd(file: Any, *args: Any, **more: Any) -> int:
        if not isinstance(file, int) and os.fspath(file) == path and Failing.left > 0:
            Failing.left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return real_fd(file, *args, **more)

    builtins.open = io.open = opened
    os.open = opened_fd  # type: ignore[assignment]


def set_back(order: Order) -> None:
    """Set the clock back by `clock` seconds after `after` seconds."""
    real, real_ns, begin = time.time, time.time_ns, time.monotonic()

    def back() -> int:
        return int(order["clock"]) if time.monotonic() - begin > order["after"] else 0

    time.time = lambda: real() - back()
    time.time_ns = lambda: real_ns() - back() * 10**9


def die_before(order: Order) -> None:
    """Kill the process when it is about to rename a file to the name `die_before`."""
    real = os.replace

    def replaced(source: Any, target: Any, **more: Any) -> None:
        if Path(os.fsdecode(target)).name == order["die_before"]:
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target, **more)

    os.replace = replaced  # type: ignore[assignment]


def train() -> None:
    """Run train.py as the main program of this process, with the faults installed."""
    obey()
    sys.argv[0] = str(TRAIN)
    runpy.run_path(str(TRAIN), run_name="__main__")
