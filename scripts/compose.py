#!/usr/bin/env python
"""Compose an optimizer for a task from the ingredients, by a search that learns from its trials."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import _installed

from ranger21.config.ending import ending_well
from ranger21.meta.options import parse, requested

COMPARE = Path(__file__).with_name("compare.py")

if TYPE_CHECKING:
    from ranger21.grid.jobs import PlannedRun
    from ranger21.grid.slurm import Slurm
    from ranger21.meta.composition import Composition
    from ranger21.tuning.record import Tuned


def main() -> int:
    """Run the command. Return the exit status, 1 if a run failed."""
    options = parse()
    from ranger21.grid.progress import show
    from ranger21.grid.slurm import Slurm
    from ranger21.meta.composition import Composition
    from ranger21.meta.finals import require_finals
    from ranger21.tuning.phases import run_phases

    composition = Composition(requested(options))
    place = composition.request.place
    slurm = Slurm(
        place / ".grid", shlex.split(options.sbatch), [], "compose.py", looks=options.status or options.dry_run
    )
    if options.status:
        show(composition.jobs, slurm, options.every)
        return 0
    if not options.search_only:
        arm = next(composition.phases())[0].overrides
        require_finals(composition.request, arm, options.tuned, options.transfer, options.seeds)
    look_around(composition, options)
    if options.dry_run:
        return dry_run(composition, options)
    launcher = slurm if options.launcher == "slurm" else None
    status = run_phases(composition.phases(), place, slurm.queued, options.at_once, launcher)
    return conclude(composition, slurm, options) if status is None else status


def look_around(composition: Composition, options: argparse.Namespace) -> None:
    """Print the budget and its cost, and warn of existing runs that may not match."""
    from ranger21.grid.cost import cost
    from ranger21.grid.likeness import other_code, require_same_runs

    jobs = composition.jobs()
    for warning in (*require_same_runs(jobs), other_code(jobs)):
        if warning:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
    print(composition.told(), flush=True)
    here = cost(jobs)
    print(f"this phase: {here.sentence(options.at_once)}", flush=True)
    if here.hours and here.images:
        hours = here.hours / here.images * composition.images_left() / options.at_once
        print(
            f"all searches: about {hours:.3g} hours left with {options.at_once} at once, without what follows",
            flush=True,
        )


def dry_run(composition: Composition, options: argparse.Namespace) -> int:
    """Print the size of the space and the commands of the current phase. Return the exit status."""
    from ranger21.grid.local import typed

    chains, arms = composition.planner.arms.sizes()
    print(f"about {chains:,.2g} chains, {arms:,.2g} with schedule, learning rate and weight decay")
    print("\n".join(typed(job) for job in composition.jobs() if not job.ended))
    print(
        "# then, phase by phase, the better half at twice the length, and further brackets that depend on the results"
    )
    if not options.search_only:
        tuning = "" if options.tuned else f"{composition.request.budget} trials each to tune AdamW and Ranger21, then "
        print(f"# at the end, {tuning}each winner, AdamW and Ranger21 on fresh seeds")
    return 0


def conclude(composition: Composition, slurm: Slurm, options: argparse.Namespace) -> int:
    """Write composed.json, do the final runs, and write the report. Return the exit status."""
    from ranger21.meta.finals import contestants, planned, with_rivals
    from ranger21.meta.page import shown
    from ranger21.meta.record import NAME, write_composed
    from ranger21.meta.written import write_config

    composed, request = composition.composed(), composition.request
    path = request.place / NAME
    write_composed(path, composed)
    for one in composed.searches:
        told = f"{one.winner.objective:.2f} % with {shown(one.winner)}" if one.winner else "every full run diverged"
        print(f"{one.name}: {told}")
    print(f"wrote {path}", flush=True)
    if options.search_only:
        return 0
    rivals = tuned_rivals(composition, slurm, options)
    if isinstance(rivals, int):
        return rivals
    write_composed(path, with_rivals(composed, rivals))
    jobs = planned(request, contestants(composed, rivals), options.transfer, options.seeds)
    if (status := final_runs(jobs, slurm, options)) is not None:
        return status
    out = options.out or Path(request.outputs) / f"compose-{request.experiment}"
    if config := write_config(composed, out):
        print(f"wrote {config}", flush=True)
    places = [str(job.directory) for job in jobs]
    words = [sys.executable, str(COMPARE), *places, "--composed", str(path), "--out", str(out)]
    return subprocess.run(words).returncode


def tuned_rivals(composition: Composition, slurm: Slurm, options: argparse.Namespace) -> list[Tuned] | int:
    """Return tuned AdamW and Ranger21, from --tuned or tuned now; or the exit status if that cannot go on now."""
    from ranger21.meta.finals import rivals_in, rivals_search
    from ranger21.tuning.phases import run_phases

    if options.tuned:
        return rivals_in(options.tuned, composition.request.experiment)
    search = rivals_search(composition.request)
    launcher = slurm if options.launcher == "slurm" else None
    status = run_phases(search.phases(), search.request.place, slurm.queued, options.at_once, launcher)
    return rivals_in(search.write(), composition.request.experiment) if status is None else status


def final_runs(jobs: list[PlannedRun], slurm: Slurm, options: argparse.Namespace) -> int | None:
    """Run the winners and the tuned optimizers on fresh seeds. Return the exit status if they have not all ended."""
    from ranger21.grid.jobs import to_do
    from ranger21.grid.local import Local, typed

    failed: list[PlannedRun] = []
    left = to_do(jobs, slurm.queued())
    print(f"final runs: {sum(job.ended for job in jobs)} of {len(jobs)} ended", flush=True)

    def told(job: PlannedRun, code: int) -> None:
        ended = sum(one.ended for one in jobs)
        print(f"{ended}/{len(jobs)}  {job.directory}  {job.state if not code else f'exit code {code}'}", flush=True)

    if options.launcher == "slurm":
        if left:
            print(slurm.submit(left, options.at_once, None))
    else:  # other processes may have started some of them meanwhile
        failed = Local(options.at_once, told).run(job for job in left if not (job.ended or job.launched))
    for job in failed:
        print(f"failed: {typed(job)}\n  see {job.directory / 'launcher.txt'}", file=sys.stderr)
    if failed:
        return 1
    if all(job.ended for job in jobs):
        return None
    print("Other processes or SLURM run the rest. Repeat this command when they have ended.")
    return 0


if __name__ == "__main__":
    with ending_well("continues with the remaining trials"):
        sys.exit(main())
