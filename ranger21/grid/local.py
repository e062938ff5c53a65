"""Run jobs on this machine, some at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from ranger21.config.arguments import command
from ranger21.grid.jobs import Job
from ranger21.system.processes import granted_cores
from ranger21.system.project import TRAIN


def typed(job: Job) -> str:
    """A run's command as one types it."""
    return command("python", "train.py", *job.overrides)


class Local:
    """Runs every job as `python train.py …`, `at_once` at a time, each with its share of the cores.

    `told(job, code)` is called as each ends; what a job prints goes to the file `launcher.txt` in its directory.
    """

    def __init__(self, at_once: int, told: Callable[[Job, int], None]) -> None:
        self.at_once, self.told = at_once, told
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped, self._lock, self._asking = False, threading.Lock(), threading.Lock()

    @property
    def stopped(self) -> bool:
        """Whether no further job is started."""
        return self._stopped

    def run(self, jobs: Iterable[Job]) -> list[Job]:
        """Runs the jobs to their ends and returns those that failed. Ctrl-C and SIGTERM let each save a checkpoint.

        A job is asked for when it can start; one thread asks at a time.
        """
        source, failed = iter(jobs), list[Job]()
        with ThreadPoolExecutor(self.at_once) as pool:
            futures = [pool.submit(self._work, source) for _ in range(self.at_once)]
            try:
                for future in futures:
                    failed += future.result()
            except BaseException:
                self._stop()
                raise
        return failed

    def _work(self, source: Iterator[Job]) -> list[Job]:
        failed = []
        while (job := self._next(source)) is not None:
            if self._run(job):
                failed.append(job)
        return failed

    def _next(self, source: Iterator[Job]) -> Job | None:
        with self._asking:
            return None if self._stopped else next(source, None)

    def _run(self, job: Job) -> int:
        job.directory.mkdir(parents=True, exist_ok=True)
        with open(job.directory / "launcher.txt", "ab") as output:
            process = self._start(job, output)
        if process is None:
            return 0
        code = process.wait()
        with self._lock:
            self._running.discard(process)
        self.told(job, code)
        return code

    def _start(self, job: Job, output: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """The run's process, in a session of its own so that Ctrl-C is ours to pass on; None after a stop."""
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
