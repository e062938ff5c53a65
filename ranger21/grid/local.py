"""Local launcher: runs on this machine, several at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from ranger21.grid.jobs import OUTPUT, PlannedRun
from ranger21.system.locks import hold
from ranger21.system.processes import granted_cores
from ranger21.system.project import TRAIN, command


def typed(job: PlannedRun) -> str:
    """Return a run's command as a user types it."""
    return command("python", "train.py", *job.overrides)


class Local:
    """Launcher that runs `python train.py …`, `at_once` at a time, each with an equal share of the cores.

    The output of a run goes to `launcher.txt` in its directory, which stays locked until the run ends.

    Args:
        at_once: number of runs at a time.
        told: called with each run and its exit code when it ends.
    """

    def __init__(self, at_once: int, told: Callable[[PlannedRun, int], None]) -> None:
        self.at_once, self.told = at_once, told
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped, self._lock, self._asking = False, threading.Lock(), threading.Lock()

    @property
    def stopped(self) -> bool:
        """Whether the launcher was stopped and starts no further run."""
        return self._stopped

    def run(self, jobs: Iterable[PlannedRun]) -> list[PlannedRun]:
        """Run all jobs to the end and return those that failed. On Ctrl-C and SIGTERM each run saves a checkpoint.

        The next run is taken from `jobs` when it can start, by one thread at a time.
        """
        source, failed = iter(jobs), list[PlannedRun]()
        with ThreadPoolExecutor(self.at_once) as pool:
            futures = [pool.submit(self._work, source) for _ in range(self.at_once)]
            try:
                for future in futures:
                    failed += future.result()
            except BaseException:
                self._stop()
                raise
        return failed

    def _work(self, source: Iterator[PlannedRun]) -> list[PlannedRun]:
        failed = []
        while (job := self._next(source)) is not None:
            if self._run(job):
                failed.append(job)
        return failed

    def _next(self, source: Iterator[PlannedRun]) -> PlannedRun | None:
        with self._asking:
            return None if self._stopped else next(source, None)

    def _run(self, job: PlannedRun) -> int:
        job.directory.mkdir(parents=True, exist_ok=True)
        with open(job.directory / OUTPUT, "ab") as output:
            with contextlib.suppress(OSError):  # the file system has no locks
                hold(output.fileno())
            process = self._start(job, output)
            if process is None:
                return 0
            code = process.wait()
        with self._lock:
            self._running.discard(process)
        self.told(job, code)
        return code

    def _start(self, job: PlannedRun, output: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """Start a run in its own session, so that it gets Ctrl-C only from this process; None after a stop."""
        threads = str(max(1, granted_cores() // self.at_once))
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, str(TRAIN), *job.overrides],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": threads, **os.environ},
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.send_signal(signal.SIGTERM)
