"""Local launcher: runs on this machine, several at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from ranger21.grid.jobs import OUTPUT, PlannedRun
from ranger21.system.locks import hold
from ranger21.system.processes import granted_cores
from ranger21.system.project import TRAIN, command

log = logging.getLogger("ranger21")


def typed(job: PlannedRun) -> str:
    """Return a run's command as a user types it."""
    return command("python", "train.py", *job.overrides)


def visible_gpus(count: int | None = None, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs that runs may use, as CUDA_VISIBLE_DEVICES names them; none without a GPU.

    Args:
        count: number of GPUs that a process sees; None: ask torch, whose import takes seconds.
        environ: environment variables. GPUs that CUDA_VISIBLE_DEVICES leaves out are not used.
    """
    if count is None:
        import torch

        count = torch.cuda.device_count()
    if "CUDA_VISIBLE_DEVICES" not in environ:
        return [str(number) for number in range(count)]
    names = [name.strip() for name in environ["CUDA_VISIBLE_DEVICES"].split(",")]
    parts = count and all(name.startswith("MIG-") for name in names)  # of these, a process sees only the first
    return names if parts else names[:count]


class Local:
    """Launcher that runs `python train.py …`, `at_once` at a time, each with an equal share of the cores.

    With several at a time, each has a GPU of its own; if there are fewer GPUs, they share them evenly, and a warning
    says so. Runs with `trainer.device=cpu`, `mps` or `cuda:N` choose their device themselves.

    The output of a run goes to `launcher.txt` in its directory, which stays locked until the run ends.

    Args:
        at_once: number of runs at a time.
        told: called with each run and its exit code when it ends.
        gpus: names for CUDA_VISIBLE_DEVICES; None: those of `visible_gpus`.
    """

    def __init__(
        self, at_once: int, told: Callable[[PlannedRun, int], None], gpus: Sequence[str] | None = None
    ) -> None:
        self.at_once, self.told, self._gpus = at_once, told, gpus
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped, self._lock, self._asking = False, threading.Lock(), threading.Lock()
        self._shared = False  # whether the warning has been printed

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
            futures = [pool.submit(self._work, source, slot) for slot in range(self.at_once)]
            try:
                for future in futures:
                    failed += future.result()
            except BaseException:
                self._stop()
                raise
        return failed

    def _work(self, source: Iterator[PlannedRun], slot: int) -> list[PlannedRun]:
        failed = []
        while (job := self._next(source)) is not None:
            if self._run(job, slot):
                failed.append(job)
        return failed

    def _next(self, source: Iterator[PlannedRun]) -> PlannedRun | None:
        with self._asking:
            return None if self._stopped else next(source, None)

    def _run(self, job: PlannedRun, slot: int) -> int:
        job.directory.mkdir(parents=True, exist_ok=True)
        with open(job.directory / OUTPUT, "ab") as output:
            with contextlib.suppress(OSError):  # the file system has no locks
                hold(output.fileno())
            process = self._start(job, output, self._gpu(job, slot))
            if process is None:
                return 0
            code = process.wait()
        with self._lock:
            self._running.discard(process)
        self.told(job, code)
        return code

    def _gpu(self, job: PlannedRun, slot: int) -> dict[str, str]:
        """Return the variable that gives a run its GPU; none for one run at a time, and without GPUs."""
        if self.at_once == 1 or job.config.trainer.device not in ("auto", "cuda"):
            return {}
        with self._lock:
            if self._gpus is None:
                self._gpus = visible_gpus()
            if 0 < len(self._gpus) < self.at_once and not self._shared:
                self._shared = True
                log.warning(_sharing(self.at_once, self._gpus))
        return {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if self._gpus else {}

    def _start(self, job: PlannedRun, output: IO[bytes], gpu: Mapping[str, str]) -> subprocess.Popen[bytes] | None:
        """Start a run in its own session, so that it gets Ctrl-C only from this process; None after a stop."""
        threads = str(max(1, granted_cores() // self.at_once))
        with self._lock:
            if self._stopped:
                return None
            process = subprocess.Popen(
                [sys.executable, str(TRAIN), *job.overrides],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"OMP_NUM_THREADS": threads, **os.environ, **gpu},
                start_new_session=True,
            )
            self._running.add(process)
        return process

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.send_signal(signal.SIGTERM)


def _sharing(at_once: int, gpus: Sequence[str]) -> str:
    if len(gpus) == 1:
        return f"{at_once} runs at a time share GPU {gpus[0]}, so each is slower: --at-once 1 gives each the whole GPU."
    return (
        f"{at_once} runs at a time share {len(gpus)} GPUs ({', '.join(gpus)}), so some are slower: --at-once "
        f"{len(gpus)} gives each run its own."
    )
