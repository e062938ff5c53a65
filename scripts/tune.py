#!/usr/bin/env python
"""Tune several optimizers with equal effort: each in its own search space, all at the same points."""

from __future__ import annotations

import argparse
import shlex
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
    from ranger21.tuning.phases import commands

    launcher = slurm if options.launcher == "slurm" else None
    print("\n".join(commands([task.job for task in first], options.at_once, launcher)))
    for rung in range(1, search.request.rungs):
        print(f"# then, for each optimizer, the best {search.left(rung)} at twice that length")
    return 0


def tune(search: Search, slurm: Slurm, options: argparse.Namespace) -> int:
    """Run or submit phase after phase, and write tuned.json. Return the exit status, 1 if a trial failed."""
    from ranger21.tuning.phases import run_phases

    launcher = slurm if options.launcher == "slurm" else None
    status = run_phases(search.phases(), search.request.place, slurm.queued, options.at_once, launcher)
    return finish(search) if status is None else status


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
