#!/usr/bin/env python
"""Tune several optimizers alike: each its own space, all the same number of trials at the same points."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import _installed

from ranger21.config.ending import ending_well
from ranger21.tuning.options import parse, requested

if TYPE_CHECKING:
    from ranger21.grid.slurm import Slurm
    from ranger21.tuning.plan import Task
    from ranger21.tuning.search import Search


def main() -> int:
    """Run the command; the exit status is 1 if a trial failed."""
    options = parse()
    from ranger21.grid.progress import show
    from ranger21.grid.slurm import Slurm
    from ranger21.tuning.search import Search

    request = requested(options)
    search = Search(request)
    slurm = Slurm(request.place / ".grid", shlex.split(options.sbatch), [], "tune.py")
    if options.status:
        show(lambda: [task.job for task in search.present()], slurm, options.every)
        return 0
    first = next(search.phases())
    look_around(search, first, options)
    if options.dry_run:
        return dry_run(search, first, slurm, options)
    return tune(search, slurm, options)


def look_around(search: Search, first: list[Task], options: argparse.Namespace) -> None:
    """Tell what there is and what it will cost, and warn of runs that may not fit. Raise a UserError if they do not."""
    from ranger21.grid.cost import cost
    from ranger21.grid.likeness import other_code, require_same_runs

    jobs = [task.job for task in first]
    for warning in (*require_same_runs(jobs), other_code(jobs)):
        if warning:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
    request, later = search.request, search.later()
    what = f"{', '.join(request.optimizers)} in {', '.join(request.experiments)}"
    rungs = f", {request.rungs} rungs" if request.rungs > 1 else ""
    print(
        f"{what}, {request.trials} trials each{rungs}: "
        f"{sum(job.ended for job in jobs)} of {len(jobs)} ended; "
        f"{cost([*jobs, *(task.job for task in later)]).sentence(options.at_once)}"
        f"{', and as much again where a space is widened' if request.widen else ''}",
        flush=True,
    )


def dry_run(search: Search, first: list[Task], slurm: Slurm, options: argparse.Namespace) -> int:
    """Print what would be typed for the first phase."""
    from ranger21.grid.local import typed

    jobs = [task.job for task in first if not task.job.ended]
    if options.launcher == "slurm":
        plan = slurm.plan(jobs, options.at_once, None)
        print("\n".join(shlex.join(words) for words in (*(job.overrides for job in plan.jobs), plan.array) if words))
    else:
        print("\n".join(typed(job) for job in jobs))
    for rung in range(1, search.request.rungs):
        print(f"# then, of each optimizer, the best {search.left(rung)} at twice that length")
    return 0


def tune(search: Search, slurm: Slurm, options: argparse.Namespace) -> int:
    """Run, or submit, phase after phase, and write what came."""
    from ranger21.grid.cost import cost
    from ranger21.grid.likeness import require_same_runs
    from ranger21.grid.local import typed
    from ranger21.records.directory import in_use
    from ranger21.system.stopping import stop_signals
    from ranger21.system.terminal import duration
    from ranger21.tuning.outcome import outcome
    from ranger21.tuning.work import Worker

    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    present: list[Task] = []

    def told(task: Task) -> None:
        came = outcome(task)
        shown = came.state if came.objective is None else f"{came.objective:.2f} %"
        jobs = [task.job for task in present]
        ended = sum(job.ended for job in jobs)
        hours = cost(jobs).hours if ended < len(jobs) else None
        left = f"  about {duration(3600 * hours / options.at_once)} left" if hours else ""
        print(
            f"{ended}/{len(jobs)}  {task.stage.told}, trial {task.point}: {shown}{left}  {task.job.directory}",
            flush=True,
        )

    worker = Worker(search.request.place, slurm.queued, told)
    for phase, tasks in enumerate(search.phases()):
        for warning in require_same_runs([task.job for task in tasks]) if phase else ():
            print(f"warning: {warning}", file=sys.stderr, flush=True)
        present[:] = tasks
        worker.begin(tasks)
        if options.launcher == "slurm":
            if left := worker.collect():
                free = [task for task in left if not in_use(task.job.directory)]
                print(slurm.submit([task.job for task in free], options.at_once, None))
                worker.submitted(free)
                print(f"{len(left)} trials to wait for: type the same again to collect them.")
                return 0
            continue
        if failed := worker.run(options.at_once):
            for task in failed:
                print(f"failed: {typed(task.job)}\n  see {task.job.directory / 'launcher.txt'}", file=sys.stderr)
            return 1
    return finish(search)


def finish(search: Search) -> int:
    """Write tuned.json, and say who won with what."""
    path = search.write()
    for one in search.tuned():
        won = one.winner
        if won is None:
            print(f"{one.experiment}, {one.optimizer}: all trials diverged", file=sys.stderr)
            continue
        print(f"{one.experiment}, {one.optimizer}: {won.objective:.2f} % with {shlex.join(won.overrides)}")
        for edge in one.edges:
            print(
                f"  no trial had a {edge.side}er {edge.dimension} than its {won.values[edge.dimension]}: the best may "
                f"lie beyond{'' if search.request.widen else ' (--widen looks there)'}"
            )
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    with ending_well("does what is missing"):
        sys.exit(main())
