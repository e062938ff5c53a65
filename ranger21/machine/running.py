"""Runs the checks in a separate process with time limits; a hang or crash becomes a row, too. Imports no torch."""

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
from ranger21.machine.check import FAILED, WARNING, CheckResult, CheckRow
from ranger21.machine.listing import FIRST, Check
from ranger21.records.code import PROJECT
from ranger21.system.wording import one_line

LINES = 3  # last lines of a dead process's output that are reported


@dataclass(frozen=True)
class CheckRequest:
    """The input of the checks, and their time limits.

    Attributes:
        overrides: the command-line arguments of the training.
        quick: whether --quick was given.
        limit: time limit of one check, in seconds.
        total: time limit of all checks, in seconds; None: no limit.
        work: an empty folder for files.
        temporary: an empty folder for TMPDIR, used unless its path is too long for sockets.
    """

    overrides: tuple[str, ...]
    quick: bool
    limit: float
    total: float | None
    work: Path
    temporary: Path


class CheckProcess:
    """A process that runs checks; leaving the context kills it and all processes that it started."""

    def __init__(self, order: CheckRequest, numbers: dict[str, Any]) -> None:
        self.said = order.temporary / "said.txt"
        self.holds_device = False
        self._here, there = multiprocessing.Pipe()
        path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
        temporary = str(order.temporary) if is_short(str(order.temporary)) else tempfile.gettempdir()
        # As in train.py: spinning threads slow each other down on a shared machine.
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
                start_new_session=True,  # only the command gets Ctrl-C
            )
        there.close()
        told = {"overrides": order.overrides, "quick": order.quick, "work": str(order.work), "numbers": numbers}
        with contextlib.suppress(BrokenPipeError):  # the process has died; the first check reports it
            self._here.send_bytes(json.dumps(told).encode())

    @property
    def pid(self) -> int:
        """Id of the process, which is also that of its process group."""
        return self._process.pid

    def __enter__(self) -> CheckProcess:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._here.close()

    def ask(self, name: str, seconds: float) -> tuple[CheckResult, bool]:
        """Run a check; return its result, and whether the process can run further checks.

        Raises a TimeoutError if the check takes more than `seconds`.
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
        return CheckResult(**answer["found"]), answer["whole"]

    def _died(self) -> CheckResult:
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        printed = self.said.read_text(errors="replace").strip().splitlines()[-LINES:]
        told = f": {one_line(' / '.join(printed), 400)}" if printed else ""
        remedy = "check the job's memory limit and dmesg" if code == -signal.SIGKILL else ""
        return CheckResult(f"the process of this check {how}{told}", FAILED, remedy)


def rows(order: CheckRequest, checks: Iterable[Check], begins: Callable[[str], None]) -> Iterator[CheckRow]:
    """Run the checks and yield a row for each as it ends; `begins` is called with each name before."""
    numbers: dict[str, Any] = {}
    end = None if order.total is None else time.monotonic() + order.total
    with contextlib.ExitStack() as stack:
        worker: CheckProcess | None = None
        for check in checks:
            begins(check.name)
            begun = time.monotonic()
            left = order.limit if end is None else min(order.limit, end - begun)
            if left <= 0:
                late = CheckResult(f"skipped because the {order.total:g} s of --quick are over", WARNING, LATER)
                yield CheckRow(check.name, late, 0.0)
                continue
            if worker and check.starts and worker.holds_device:
                stack.pop_all().close()
                worker = None
            worker = worker or stack.enter_context(CheckProcess(order, numbers))
            try:
                found, whole = worker.ask(check.name, left)
            except TimeoutError:
                found, whole = _late(left < order.limit, left, order.total), False
            if not whole:
                stack.pop_all().close()
                worker = None
            numbers[check.name] = dict(found.numbers)
            yield CheckRow(check.name, found, time.monotonic() - begun)
            if check.name == FIRST and found.state == FAILED:
                return


LATER = "run it without --quick"


def _late(by_total: bool, left: float, total: float | None) -> CheckResult:
    if by_total:
        return CheckResult(f"stopped after {left:.0f} s because the {total:g} s of --quick are over", WARNING, LATER)
    return CheckResult(
        f"nothing came within {left:g} s", FAILED, "it hangs, or needs longer: --limit SECONDS allows each check more"
    )
