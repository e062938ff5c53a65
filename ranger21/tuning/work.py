"""Running a phase's trials to their ends: by this command, by others that were typed beside it, or by SLURM."""

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
from ranger21.tuning.claims import FOLDER, Claims
from ranger21.tuning.journal import NAME, Journal
from ranger21.tuning.outcome import outcome
from ranger21.tuning.plan import Task

PAUSE = 1.0  # seconds between two looks at what others run
SLURMS = 30.0  # seconds between two questions to SLURM

log = logging.getLogger("ranger21")


class Worker:
    """Takes trials from the queue, one after the other, until all of a phase have ended.

    Whether a trial has ended, its run's directory tells, whoever ran it. A trial whose worker died is taken over; one
    that still runs, or that SLURM holds, is waited for.

    Args:
        place: of the runs and the journal.
        queued: the run directories that SLURM holds, asked for again and again.
        told: is called with each trial that has ended, by whomever.
    """

    def __init__(self, place: Path, queued: Callable[[], Container[Path]], told: Callable[[Task], None]) -> None:
        self.claims = Claims(place / FOLDER)
        self.told, self._ask, self._asked = told, queued, -math.inf
        self._queued: Container[Path] = ()
        self._lock = threading.Lock()
        with self.claims.turn():
            self.journal = Journal(place / NAME)

    def begin(self, tasks: Sequence[Task]) -> None:
        """Enqueue a phase's trials, and note those that have ended."""
        self._open = list(tasks)
        self._failed: dict[Path, Task] = {}
        with self._lock, self.claims.turn():
            self.journal.enqueue(tasks)
            for task in tasks:
                if self.journal.has_ended(task) and not task.job.ended:
                    log.warning("%s has ended, but has no result any more: it runs again.", task.job.directory)
        self.collect()

    def collect(self) -> list[Task]:
        """Note the trials that have ended; return the others."""
        with self._lock, self.claims.turn():
            self._collect()
            return list(self._open)

    def run(self, at_once: int) -> list[Task]:
        """Run the trials to their ends, so many at a time, and return those that failed here."""
        local = Local(at_once, self._ended)
        local.run(self._jobs(local))
        self.collect()
        return [task for task in self._open if task.job.directory in self._failed]

    def submitted(self, tasks: Sequence[Task]) -> None:
        """Note that a scheduler has trials."""
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
                    log.warning("Waiting for %d trials that others have, such as %s.", len(left), left[0].job.directory)
                    waiting = True
                time.sleep(PAUSE)

    def _next(self) -> Task | None:
        """The first trial that nobody has, claimed."""
        for task in self._open:
            directory = task.job.directory
            if directory in self._failed or in_use(directory) or directory in self._held():
                continue
            if self.claims.take(_name(directory)):
                self.journal.take(task)
                return task
        return None

    def _held(self) -> Container[Path]:
        """What SLURM holds, which is not asked each time."""
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
