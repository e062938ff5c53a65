#!/usr/bin/env python
"""Compose an optimizer for a task from the ingredients, by a search that learns from its trials."""

from __future__ import annotations

import argparse
import functools
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
    from ranger21.meta.finals import Finals
    from ranger21.meta.record import Composed


def main() -> int:
    """Run the command. Return the exit status, 1 if a run failed."""
    options = parse()
    from ranger21.grid.progress import show
    from ranger21.grid.slurm import Slurm
    from ranger21.meta.composition import Composition
    from ranger21.meta.finals import Finals
    from ranger21.tuning.phases import run_phases

    composition = Composition(request := requested(options))
    arm, finals = next(composition.phases())[0].overrides, None
    if not options.search_only:
        finals = Finals(request, arm, options.tuned, options.transfer, options.seeds)
    looks = options.status or options.dry_run
    slurm = Slurm(request.place / ".grid", shlex.split(options.sbatch), [], "compose.py", looks=looks)
    launcher = slurm if options.launcher == "slurm" else None
    if options.status:
        show(lambda: present(composition, finals), slurm, options.every)
        return 0
    jobs = present(composition, finals)
    look_around(composition, jobs, options)
    if options.dry_run:
        return dry_run(composition, finals, jobs, launcher, options)
    status = run_phases(composition.phases(), request.place, slurm.queued, options.at_once, launcher)
    return conclude(composition, finals, slurm, options) if status is None else status


def present(composition: Composition, finals: Finals | None) -> list[PlannedRun]:
    """Return the runs of the first unfinished phase: trials of the searches or of the rivals, or the final runs."""
    jobs = composition.jobs()
    return finals.present(composition.composed()) if finals and all(job.ended for job in jobs) else jobs


def look_around(composition: Composition, jobs: list[PlannedRun], options: argparse.Namespace) -> None:
    """Print the budget and its cost, and warn of existing runs that may not match."""
    from ranger21.grid.cost import cost
    from ranger21.grid.likeness import other_code, require_same_runs
    from ranger21.system.terminal import duration

    for warning in (*require_same_runs(jobs), other_code(jobs)):
        if warning:
            print(f"warning: {warning}", file=sys.stderr, flush=True)
    print(composition.told(), flush=True)
    here = cost(jobs)
    print(f"this phase: {here.sentence(options.at_once)}", flush=True)
    if here.hours and here.images and (left := composition.images_left()):
        time = duration(3600 * here.hours / here.images * left / options.at_once)
        rest = "" if options.search_only else ", without what follows"
        print(f"all searches: about {time} left with {options.at_once} at once{rest}", flush=True)


def dry_run(
    composition: Composition,
    finals: Finals | None,
    jobs: list[PlannedRun],
    launcher: Slurm | None,
    options: argparse.Namespace,
) -> int:
    """Print the size of the space and the commands of the current phase. Return the exit status."""
    from ranger21.grid.record import publication, records
    from ranger21.tuning.phases import commands

    chains, arms = composition.planner.arms.sizes()
    print(f"about {chains:,.2g} chains, {arms:,.2g} with schedule, learning rate and weight decay")
    print("\n".join(commands(jobs, options.at_once, launcher)))
    if composition.images_left():
        print("# then, phase by phase, the better half at twice the length, and brackets that depend on the results")
    if finals and not finals.rivals():
        print(f"# then {composition.request.budget} trials each to tune AdamW and Ranger21")
    if finals and composition.images_left():
        print(f"# at the end, each winner, AdamW and Ranger21 on fresh seeds of {', '.join(finals.tasks)}")
    elif finals and finals.rivals() and options.record:
        print(f"# --record would copy {publication(records(jobs))}")
    return 0


def conclude(composition: Composition, finals: Finals | None, slurm: Slurm, options: argparse.Namespace) -> int:
    """Print the winners, do the final runs, and write the results. Return the exit status."""
    from ranger21.grid.jobs import folder_name
    from ranger21.meta.page import shown
    from ranger21.meta.rivals import with_rivals

    composed, request = composition.composed(), composition.request
    for one in composed.searches:
        told = f"{one.winner.objective:.2f} % with {shown(one.winner)}" if one.winner else "every full run diverged"
        print(f"{one.name}: {told}", flush=True)
    out = options.out or Path(request.outputs) / folder_name(f"compose-{request.experiment}", request.arguments)
    if finals is None:
        write_results(composed, out)
        return 0
    if (status := tune_rivals(finals, slurm, options)) is not None:
        return status
    composed = with_rivals(composed, finals.rivals() or ())
    write_results(composed, out)
    jobs = finals.present(composed)
    status = final_runs(jobs, slurm, options)
    return report(composed, jobs, out, options) if status is None else status


def write_results(composed: Composed, out: Path) -> None:
    """Write composed.json, and the best winner as a configuration."""
    from ranger21.meta.record import NAME, write_composed
    from ranger21.meta.written import write_config

    out.mkdir(parents=True, exist_ok=True)
    write_composed(out / NAME, composed)
    for path in (out / NAME, write_config(composed, out)):
        if path:
            print(f"wrote {path}", flush=True)


def tune_rivals(finals: Finals, slurm: Slurm, options: argparse.Namespace) -> int | None:
    """Tune AdamW and Ranger21, unless --tuned has them. Return the exit status if that has not ended."""
    from ranger21.system.wording import counted
    from ranger21.tuning.phases import run_phases

    if finals.search is None:
        return None
    launcher = slurm if options.launcher == "slurm" else None
    phases, place = finals.search.phases(), finals.search.request.place
    print(f"tuning AdamW and Ranger21: {counted(finals.search.request.trials, 'trial')} each", flush=True)
    status = run_phases(phases, place, slurm.queued, options.at_once, launcher)
    if status is None and finals.rivals():
        finals.search.write()
    return status


def final_runs(jobs: list[PlannedRun], slurm: Slurm, options: argparse.Namespace) -> int | None:
    """Run the winners and the tuned optimizers on fresh seeds. Return the exit status if they have not all ended."""
    from ranger21.grid.cost import cost
    from ranger21.grid.jobs import to_do
    from ranger21.grid.local import Local, typed
    from ranger21.system.terminal import duration

    failed: list[PlannedRun] = []
    left = to_do(jobs, slurm.queued())
    print(f"final runs: {sum(job.ended for job in jobs)} of {len(jobs)} ended", flush=True)

    def told(job: PlannedRun, code: int) -> None:
        hours = cost(jobs).hours
        time = f"  about {duration(3600 * hours / options.at_once)} left" if hours else ""
        state = job.state if not code else f"exit code {code}"
        print(f"{sum(one.ended for one in jobs)}/{len(jobs)}  {job.directory}  {state}{time}", flush=True)

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


def report(composed: Composed, jobs: list[PlannedRun], out: Path, options: argparse.Namespace) -> int:
    """Write the comparison; with --record, the results and the runs' records as well. Return the exit status."""
    from ranger21.grid.publish import publish_runs
    from ranger21.meta.record import NAME, for_publication
    from ranger21.report.runs.record_file import NAME as RUNS

    places = sorted({str(job.directory) for job in jobs})
    if options.record:
        composed, out = for_publication(composed, options.record), options.record
        if not publish_runs(jobs, out / RUNS, options.yes, functools.partial(print, flush=True)):
            print("nothing was copied or compared", file=sys.stderr)
            return 1
        write_results(composed, out)
        places = [str(out / RUNS)]
    words = [sys.executable, str(COMPARE), *places, "--composed", str(out / NAME), "--out", str(out)]
    code = subprocess.run(words).returncode
    if not code:
        print(f"\nThe report is {out / 'compose.md'}; open {out / 'index.html'} for the page.")
    return code


if __name__ == "__main__":
    with ending_well("continues with the remaining trials"):
        sys.exit(main())
