"""Run the trials of a phase, sharing them with other workers and with SLURM."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

from ranger21.grid.jobs import PlannedRun
from ranger21.grid.local import Local
from ranger21.records.directory import in_use
from ranger21.system.wording import counted
from ranger21.tuning.claims import FOLDER, Claims
from ranger21.tuning.journal import NAME, Journal
from ranger21.tuning.outcome import outcome
from ranger21.tuning.plan import Task

PAUSE = 1.0  # seconds between checks of trials that others run
SLURMS = 30.0  # seconds between queries to SLURM

log = logging.getLogger("ranger21")


class TrialWorker:
    """Takes trials from the queue until all trials of a phase have ended.

    The run directory shows whether a trial has ended, whichever worker ran it. Trials of workers that died are taken
    over; trials that are running elsewhere, or that SLURM has queued, are waited for.

    Args:
        place: the folder of the runs and the journal.
        queued: returns the run directories that SLURM has queued; called repeatedly.
        told: called with each trial that has ended, whichever worker ran it.
    """

    def __init__(self, place: Path, queued: Callable[[], Container[Path]], told: Callable[[Task], None]) -> None:
        self.claims = Claims(place / FOLDER)
        self.told, self._ask, self._asked = told, queued, -math.inf
        self._queued: Container[Path] = ()
        self._lock = threading.Lock()
        with self.claims.turn():
            self.journal = Journal(place / NAME)

    def begin(self, tasks: Sequence[Task]) -> None:
        """Enqueue the trials of a phase, and record those that have ended."""
        self._open = list(tasks)
        self._failed: dict[Path, Task] = {}
        with self._lock, self.claims.turn():
            self.journal.enqueue(tasks)
            for task in tasks:
                if self.journal.has_ended(task) and not task.job.ended:
                    log.warning("%s ended before, but its result is missing: it runs again.", task.job.directory)
        self.collect()

    def collect(self) -> list[Task]:
        """Record the trials that have ended, and return the others."""
        with self._lock, self.claims.turn():
            self._collect()
            return list(self._open)

    def run(self, at_once: int) -> list[Task]:
        """Run the trials, `at_once` at a time, until all have ended. Return those that failed in this process."""
        local = Local(at_once, self._ended)
        local.run(self._jobs(local))
        self.collect()
        return [task for task in self._open if task.job.directory in self._failed]

    def submitted(self, tasks: Sequence[Task]) -> None:
        """Mark trials as submitted to a scheduler."""
        with self._lock, self.claims.turn():
            for task in tasks:
                self.journal.take(task)

    def _jobs(self, local: Local) -> Iterator[PlannedRun]:
        waiting = False
        while not local.stopped:
            with self._lock, self.claims.turn():
                self._collect()
                task = self._next()
                left = [task for task in self._open if task.job.directory not in self._failed]
            if task is not None:
                yield task.job
            elif not left:
                return
            else:
                if not waiting and not self.claims.any:
                    what = counted(len(left), "trial")
                    log.warning("Waiting for %s of other workers, such as %s.", what, left[0].job.directory)
                    waiting = True
                time.sleep(PAUSE)

    def _next(self) -> Task | None:
        """Claim and return the first free trial; None if there is none."""
        for task in self._open:
            directory = task.job.directory
            if directory in self._failed or in_use(directory) or directory in self._held():
                continue
            if self.claims.take(_name(directory)):
                self.journal.take(task)
                return task
        return None

    def _held(self) -> Container[Path]:
        """Return the run directories that SLURM has queued, cached for SLURMS seconds."""
        if time.monotonic() > self._asked + SLURMS:
            self._queued, self._asked = self._ask(), time.monotonic()
        return self._queued

    def _collect(self) -> None:
        for task in [task for task in self._open if task.job.ended]:
            self._open.remove(task)
            self.journal.tell(task, outcome(task))
            self.told(task)

    def _ended(self, job: PlannedRun, code: int) -> None:
        with self._lock, self.claims.turn():
            self.claims.release(_name(job.directory))
            task = next((task for task in self._open if task.job.directory == job.directory), None)
            if task is not None and not job.ended and not in_use(job.directory):
                self._failed[job.directory] = task
            self._collect()


def _name(directory: Path) -> str:
    return f"{directory.parent.name}/{directory.name}"
