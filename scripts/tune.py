#!/usr/bin/env python
"""Tune several optimizers with equal effort: each in its own search space, all at the same points."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from typing import TYPE_CHECKING

import _installed

from ranger21.config.ending import ending_well
from ranger21.system.wording import counted
from ranger21.tuning.options import parse, requested

if TYPE_CHECKING:
    from ranger21.grid.slurm import Slurm
    from ranger21.tuning.plan import Task
    from ranger21.tuning.search import Search


def main() -> int:
    """Run the command. Return the exit status, 1 if a trial failed."""
    options = parse()
    from ranger21.grid.progress import show
    from ranger21.grid.slurm import Slurm
    from ranger21.tuning.search import Search

    request = requested(options)
    search = Search(request)
    slurm = Slurm(
        request.place / ".grid", shlex.split(options.sbatch), [], "tune.py", looks=options.status or options.dry_run
    )
    if options.status:
        show(lambda: [task.job for task in search.present()], slurm, options.every)
        return 0
    first = next(search.phases())
    look_around(search, first, options)
    if options.dry_run:
        return dry_run(search, first, slurm, options)
    return tune(search, slurm, options)


def look_around(search: Search, first: list[Task], options: argparse.Namespace) -> None:
    """Print progress and cost, and warn of existing runs that may not match. Raise a UserError if they do not."""
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
        f"{what}, {counted(request.trials, 'trial')} each{rungs}: "
        f"{sum(job.ended for job in jobs)} of {len(jobs)} ended; "
        f"{cost([*jobs, *(task.job for task in later)]).sentence(options.at_once)}"
        f"{', and as much again if a space is widened' if request.widen else ''}",
        flush=True,
    )


def dry_run(search: Search, first: list[Task], slurm: Slurm, options: argparse.Namespace) -> int:
    """Print the commands of the first phase. Return the exit status."""
    from ranger21.grid.local import typed

    jobs = [task.job for task in first if not task.job.ended]
    if options.launcher == "slurm":
        plan = slurm.plan(jobs, options.at_once, None)
        if slurm.doubt:
            print(f"warning: {slurm.doubt}", file=sys.stderr)
        print("\n".join(shlex.join(words) for words in (*(job.overrides for job in plan.jobs), plan.array) if words))
    else:
        print("\n".join(typed(job) for job in jobs))
    for rung in range(1, search.request.rungs):
        print(f"# then, for each optimizer, the best {search.left(rung)} at twice that length")
    return 0


def tune(search: Search, slurm: Slurm, options: argparse.Namespace) -> int:
    """Run or submit phase after phase, and write tuned.json. Return the exit status, 1 if a trial failed."""
    from ranger21.grid.cost import cost
    from ranger21.grid.likeness import require_same_runs
    from ranger21.grid.local import typed
    from ranger21.records.directory import in_use
    from ranger21.system.stopping import stop_signals
    from ranger21.system.terminal import duration
    from ranger21.tuning.outcome import outcome
    from ranger21.tuning.work import TrialWorker

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

    worker = TrialWorker(search.request.place, slurm.queued, told)
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
                print(f"Waiting for {counted(len(left), 'trial')}. Repeat this command later to collect the results.")
                return 0
            continue
        if failed := worker.run(options.at_once):
            for task in failed:
                print(f"failed: {typed(task.job)}\n  see {task.job.directory / 'launcher.txt'}", file=sys.stderr)
            return 1
    return finish(search)


def finish(search: Search) -> int:
    """Write tuned.json, and print the winners. Return the exit status."""
    path = search.write()
    for one in search.tuned():
        won = one.winner
        if won is None:
            print(f"{one.experiment}, {one.optimizer}: all trials diverged", file=sys.stderr)
            continue
        print(f"{one.experiment}, {one.optimizer}: {won.objective:.2f} % with {shlex.join(won.overrides)}")
        for edge in one.edges:
            print(
                f"  no trial had a {edge.side}er {edge.dimension} than its {won.values[edge.dimension]}, so the best "
                f"value may lie beyond{'' if search.request.widen else ' (--widen searches there)'}"
            )
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    with ending_well("continues with the remaining trials"):
        sys.exit(main())
