"""Run or submit trials phase after phase, with progress in the terminal."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from ranger21.grid.cost import cost
from ranger21.grid.jobs import PlannedRun
from ranger21.grid.likeness import require_same_runs
from ranger21.grid.local import typed
from ranger21.grid.slurm import Slurm
from ranger21.records.directory import in_use
from ranger21.system.stopping import stop_signals
from ranger21.system.terminal import duration
from ranger21.system.wording import counted
from ranger21.tuning.contest import Queued
from ranger21.tuning.outcome import outcome
from ranger21.tuning.plan import Task
from ranger21.tuning.work import TrialWorker


def run_phases(
    phases: Iterable[Sequence[Task]], place: Path, queued: Queued, at_once: int, slurm: Slurm | None
) -> int | None:
    """Run or submit phase after phase. A line tells of each trial that ends, and how long the phase will take.

    Args:
        phases: the trials of each phase, which may depend on the results of the previous ones.
        place: the folder of the runs and the journal.
        queued: see `TrialWorker`.
        at_once: trials at a time.
        slurm: submits the trials; None runs them here.

    Returns:
        The exit status of a command that can do no more now: 1 if a trial failed, 0 if SLURM has the trials. None once
        all phases have ended.
    """
    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    present: list[Task] = []
    worker = TrialWorker(place, queued, lambda task: _write(sys.stdout, _told(task, present, at_once)))
    for phase, tasks in enumerate(phases):
        for warning in require_same_runs([task.job for task in tasks]) if phase else ():
            _write(sys.stderr, f"warning: {warning}")
        present[:] = tasks
        worker.begin(tasks)
        if slurm:
            if left := worker.collect():
                free = [task for task in left if not in_use(task.job.directory)]
                _write(sys.stdout, slurm.submit([task.job for task in free], at_once, None))
                worker.submitted(free)
                waiting = f"Waiting for {counted(len(left), 'trial')}."
                _write(sys.stdout, f"{waiting} Repeat this command later to collect the results.")
                return 0
            continue
        if failed := worker.run(at_once):
            for task in failed:
                _write(sys.stderr, f"failed: {typed(task.job)}\n  see {task.job.directory / 'launcher.txt'}")
            return 1
    return None


def commands(jobs: Sequence[PlannedRun], at_once: int, slurm: Slurm | None) -> list[str]:
    """Return the commands that run the jobs that have not ended; with SLURM, the lines of the array and its command."""
    left = [job for job in jobs if not job.ended]
    if slurm is None:
        return [typed(job) for job in left]
    plan = slurm.plan(left, at_once, None)
    if slurm.doubt:
        _write(sys.stderr, f"warning: {slurm.doubt}")
    return [shlex.join(words) for words in (*(job.overrides for job in plan.jobs), plan.array) if words]


def _told(task: Task, present: Sequence[Task], at_once: int) -> str:
    """Return a line about a trial that has ended."""
    came = outcome(task)
    shown = came.state if came.objective is None else f"{came.objective:.2f} %"
    jobs = [task.job for task in present]
    ended = sum(job.ended for job in jobs)
    hours = cost(jobs).hours if ended < len(jobs) else None
    left = f"  about {duration(3600 * hours / at_once)} left" if hours else ""
    return f"{ended}/{len(jobs)}  {task.stage.told}, trial {task.point}: {shown}{left}  {task.job.directory}"


def _write(stream: TextIO, line: str) -> None:
    stream.write(f"{line}\n")
    stream.flush()
