"""Has the checks done in a worker process, each within its time; what hangs or dies becomes a row. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.data.sockets import is_short
from ranger21.machine.check import FAILED, WARNING, Found, Row
from ranger21.machine.listing import FIRST, Check
from ranger21.records.code import PROJECT
from ranger21.system.wording import one_line

LINES = 3  # of what a process printed before it died


@dataclass(frozen=True)
class Order:
    """What is to be looked at.

    Attributes:
        limit: the most seconds for one check.
        total: the most seconds for all of them, of which none begins later; None: no end.
        work, temporary: empty folders, for what is written and for TMPDIR, unless its path would be too long.
    """

    overrides: tuple[str, ...]
    quick: bool
    limit: float
    total: float | None
    work: Path
    temporary: Path


class Worker:
    """A process that does checks. Leaving it ends the process and all that it started."""

    def __init__(self, order: Order, numbers: dict[str, Any]) -> None:
        self.said = order.temporary / "said.txt"
        self.holds_device = False
        self._here, there = multiprocessing.Pipe()
        path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        temporary = str(order.temporary) if is_short(str(order.temporary)) else tempfile.gettempdir()
        # Threads that spin keep each other from working where a machine is shared: train.py has it, too.
        env = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {"PYTHONPATH": path, "TMPDIR": temporary}
        command = [sys.executable, "-m", "ranger21.machine.worker", str(there.fileno())]
        with open(self.said, "wb") as said:
            self._process = subprocess.Popen(
                command,
                env=env,
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,  # Ctrl-C is the command's
            )
        there.close()
        told = {"overrides": order.overrides, "quick": order.quick, "work": str(order.work), "numbers": numbers}
        with contextlib.suppress(BrokenPipeError):  # it has died: the first check tells
            self._here.send_bytes(json.dumps(told).encode())

    @property
    def pid(self) -> int:
        """Of the process, which leads a group of all that it starts."""
        return self._process.pid

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._here.close()

    def ask(self, name: str, seconds: float) -> tuple[Found, bool]:
        """Have a check done; return what it found, and whether the process is fit for another.

        Raises a TimeoutError if it takes longer.
        """
        try:
            self._here.send_bytes(name.encode())
            if not self._here.poll(seconds):
                raise TimeoutError
            answer = json.loads(self._here.recv_bytes())
        except (EOFError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            return self._died(), False
        self.holds_device = answer["holds"]
        return Found(**answer["found"]), answer["whole"]

    def _died(self) -> Found:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        printed = self.said.read_text(errors="replace").strip().splitlines()[-LINES:]
        told = f": {one_line(' / '.join(printed), 400)}" if printed else ""
        remedy = "look at the memory that the job has, and at dmesg" if code == -signal.SIGKILL else ""
        return Found(f"the process that looked {how}{told}", FAILED, remedy)


def rows(order: Order, checks: Iterable[Check], begins: Callable[[str], None]) -> Iterator[Row]:
    """Do the checks, and yield a row for each as soon as it is done. `begins` is told each name before."""
    numbers: dict[str, Any] = {}
    end = None if order.total is None else time.monotonic() + order.total
    with contextlib.ExitStack() as stack:
        worker: Worker | None = None
        for check in checks:
            begins(check.name)
            begun = time.monotonic()
            left = order.limit if end is None else min(order.limit, end - begun)
            if left <= 0:
                late = Found(f"left out: the {order.total:g} s of --quick are over", WARNING, LATER)
                yield Row(check.name, late, 0.0)
                continue
            if worker and check.starts and worker.holds_device:
                stack.pop_all().close()
                worker = None
            worker = worker or stack.enter_context(Worker(order, numbers))
            try:
                found, whole = worker.ask(check.name, left)
            except TimeoutError:
                found, whole = _late(left < order.limit, left, order.total), False
            if not whole:
                stack.pop_all().close()
                worker = None
            numbers[check.name] = dict(found.numbers)
            yield Row(check.name, found, time.monotonic() - begun)
            if check.name == FIRST and found.state == FAILED:
                return


LATER = "run it without --quick"


def _late(by_total: bool, left: float, total: float | None) -> Found:
    if by_total:
        return Found(f"cut off after {left:.0f} s, because the {total:g} s of --quick are over", WARNING, LATER)
    return Found(
        f"nothing came within {left:g} s", FAILED, "it hangs, or needs longer: --limit SECONDS allows each check more"
    )
