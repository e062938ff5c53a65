#!/usr/bin/env python
"""Run a whole comparison with one command: every model, optimizer and seed."""

from __future__ import annotations

import argparse
import functools
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import _installed

from ranger21.config.ending import ending_well
from ranger21.grid.options import parse
from ranger21.grid.presets import PRESETS
from ranger21.system.errors import UserError

if TYPE_CHECKING:
    from ranger21.grid.jobs import PlannedRun
    from ranger21.grid.slurm import Slurm
    from ranger21.tuning.contest import Contest
    from ranger21.tuning.plan import Task
    from ranger21.tuning.search import Search

COMPARE = Path(__file__).with_name("compare.py")
HOW = "to estimate them, use --dry-run with --measure, or with --machine FILE of check_machine.py"


def main() -> int:
    """Run the command and return the exit status: 1 if a run or the comparison failed, else 0."""
    options = parse()
    from ranger21.grid.jobs import expand, folder_name
    from ranger21.grid.progress import show
    from ranger21.grid.record import comparison
    from ranger21.grid.slurm import Slurm
    from ranger21.tuning.contest import contest

    chosen = (PRESETS[options.preset], options.seeds, options.only, options.overrides)
    found = contest(*chosen, options.tuned) if chosen[0].trials else None
    jobs = found.runs() if found else expand(*chosen)
    searches = found.searches() if found else []
    trials = found.trials() if found else []
    outputs = Path(jobs[0].config.outputs)
    sbatch = (shlex.split(options.sbatch), shlex.split(options.sbatch_compare))
    looks = options.status or (options.dry_run and not options.cancel)
    slurm = Slurm(outputs / ".grid" / options.preset, *sbatch, looks=looks)
    if options.status:
        show(lambda: [*trials, *jobs], slurm, options.every)
        return 0
    out = options.out or outputs / folder_name(f"{options.preset}-comparison", [*options.only, *options.overrides])
    if options.cancel:
        print(
            slurm.cancel(
                [*trials, *jobs], comparison(jobs, out, tuned=found.record if found else None), dry_run=options.dry_run
            )
        )
        return 0
    left = look_around(jobs, trials, found, slurm, options)
    if options.dry_run and options.launcher == "local":
        return dry_run(jobs, left, found, options)
    if searches and options.launcher == "slurm":
        return submit_trials(searches, slurm, options)
    if options.launcher == "slurm":
        return submit(jobs, left, found, slurm, options, out)
    return run_here(jobs, left, found, slurm, options, out)


def look_around(
    jobs: list[PlannedRun], trials: list[PlannedRun], found: Contest | None, slurm: Slurm, options: argparse.Namespace
) -> list[PlannedRun]:
    """Print the number of runs and their cost, warn of runs that may not belong to the grid; return the runs to do."""
    from ranger21.grid.jobs import to_do
    from ranger21.grid.likeness import missing_data, other_classes, other_code, require_same_runs

    if not options.data_on_nodes and (wrong := missing_data([*trials, *jobs])):
        if options.measure or not options.dry_run:
            raise UserError(wrong)
        print(f"warning: {wrong}", file=sys.stderr)
    for doubt in (*other_classes(jobs), *require_same_runs([*trials, *jobs]), *(found.doubts() if found else ())):
        print(f"warning: {doubt}", file=sys.stderr)
    queued = slurm.queued()
    if slurm.doubt:
        print(f"warning: {slurm.doubt}", file=sys.stderr)
    left = to_do(jobs, queued)
    to_come = found.to_come() if found else []
    tell_cost([*trials, *jobs, *to_come], [*to_do(trials, queued), *left, *to_come], len(trials), options)
    if (left or trials) and (warning := other_code([*trials, *jobs])):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    return left


def tell_cost(jobs: list[PlannedRun], left: list[PlannedRun], trials: int, options: argparse.Namespace) -> None:
    """Print how many runs there are, including trials, and the cost of the runs to do."""
    from ranger21.grid.cost import cost
    from ranger21.grid.measure import Speeds, measure, recorded, to_measure

    speeds = Speeds(recorded(jobs, options.machine, options.dry_run))
    if options.measure:
        unknown = to_measure(jobs, left, speeds.machines)
        speeds = measure(unknown, speeds.machines, lambda text: print(text, file=sys.stderr, flush=True))
    for sentence in speeds.failed:
        print(f"warning: {sentence}", file=sys.stderr)
    ended = sum(job.ended for job in jobs)
    held = len(jobs) - ended - len(left)
    going = f", {held} running, starting or queued" if held else ""
    runs = f"{len(jobs)} runs{f', {trials} of them trials' if trials else ''}"
    total = cost(jobs, speeds.machines, left, speeds.counted)
    print(f"{runs}: {ended} ended{going}; {total.sentence(options.at_once, HOW)}", flush=True)


def submit_trials(searches: list[Search], slurm: Slurm, options: argparse.Namespace) -> int:
    """Submit the trials, or print them with --dry-run; the winners' runs are submitted after the trials have ended."""
    from ranger21.grid.jobs import to_do
    from ranger21.tuning.contest import enqueue

    if options.dry_run:
        trials = to_do([task.job for search in searches for task in next(search.phases())], slurm.queued())
        plan = slurm.plan(trials, options.at_once, None)
        print("\n".join(shlex.join(words) for words in (*(job.overrides for job in plan.jobs), plan.array) if words))
    else:
        print(slurm.submit([task.job for task in enqueue(searches, slurm.queued)], options.at_once, None))
    print("# when the trials have ended, run the same command again for the runs of the defaults and the winners")
    return 0


def submit(
    jobs: list[PlannedRun],
    left: list[PlannedRun],
    found: Contest | None,
    slurm: Slurm,
    options: argparse.Namespace,
    out: Path,
) -> int:
    """Submit the remaining runs and the comparison, or print the commands with --dry-run."""
    from ranger21.grid.record import comparison
    from ranger21.grid.slurm import NOTHING

    arguments = comparison(jobs, out, tuned=found.record if found else None)
    told = NOTHING
    if not options.dry_run:
        told = slurm.submit(left, options.at_once, arguments)
    elif (plan := slurm.plan(left, options.at_once, arguments)).compare:
        if plan.jobs:
            print(f"# {plan.runs}: one run per line\n" + "\n".join(shlex.join(job.overrides) for job in plan.jobs))
        told = "\n".join(shlex.join(command) for command in (plan.array, plan.compare) if command)
    by_hand = f"; to compare by hand: python scripts/compare.py {shlex.join(arguments)}" if told == NOTHING else ""
    print(told + by_hand)
    return 0


def dry_run(jobs: list[PlannedRun], left: list[PlannedRun], found: Contest | None, options: argparse.Namespace) -> int:
    """Print the commands of the remaining trials and runs."""
    from ranger21.grid.local import typed
    from ranger21.grid.record import publication, records
    from ranger21.tuning.contest import as_typed

    for search in found.searches() if found else ():
        print(as_typed(search.request))
    print("\n".join(typed(job) for job in left))
    if found and (late := found.to_come()):
        print(f"# and the winners of the trials, on the same seeds: {len(late)} runs")
    if options.record:
        print(f"# --record would copy {publication(records(jobs))}")
    return 0


def run_here(
    jobs: list[PlannedRun],
    left: list[PlannedRun],
    found: Contest | None,
    slurm: Slurm,
    options: argparse.Namespace,
    out: Path,
) -> int:
    """Run the remaining runs on this machine, then compare; on Ctrl-C the runs save a checkpoint."""
    from ranger21.grid.jobs import to_do
    from ranger21.system.stopping import stop_signals

    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)
    if found is None:
        return conclude(jobs, run(jobs, left, options), None, options, out)
    failed = False
    searches = {search.request.experiments[0]: search for search in found.searches()}
    for experiment in found.experiments:  # one after the other, so that an interrupted grid has complete workloads
        if experiment in searches and not tune(searches[experiment], slurm, options):
            return 1
        part = found.runs(experiment)
        failed = run(part, to_do(part, slurm.queued()), options) or failed
    return conclude(found.runs(), failed, found, options, out)


def tune(search: Search, slurm: Slurm, options: argparse.Namespace) -> bool:
    """Run a workload's trials; return False if some failed, because there are no winners then."""
    from ranger21.grid.local import typed
    from ranger21.tuning import contest
    from ranger21.tuning.outcome import outcome

    def told(task: Task) -> None:
        came = outcome(task)
        top1 = came.state if came.objective is None else f"{came.objective:.2f} %"
        print(f"trial {task.point} of {task.stage.optimizer}, {task.job.directory}: {top1}", flush=True)

    failed = contest.tune(search, slurm.queued, options.at_once, told)
    for task in failed:
        print(f"failed: {typed(task.job)}\n  see {task.job.directory / 'launcher.txt'}", file=sys.stderr)
    return not failed


def run(jobs: list[PlannedRun], left: list[PlannedRun], options: argparse.Namespace) -> bool:
    """Run the remaining runs and return whether any failed; with --record and --yes, keep each record as a run ends."""
    from ranger21.grid.local import Local, typed
    from ranger21.grid.record import record, records
    from ranger21.report.runs.record_file import NAME

    done = len(jobs) - len(left)
    file, one_at_a_time = options.record and options.record / NAME, threading.Lock()

    def told(job: PlannedRun, code: int) -> None:
        with one_at_a_time:
            tell(job, code)

    def tell(job: PlannedRun, code: int) -> None:
        nonlocal done
        done += 1
        if file and options.yes and job.ended:
            try:
                record(records([job]), file)
            except UserError as error:
                print(f"warning: {error}", file=sys.stderr)
        print(f"{done}/{len(jobs)}  {job.directory}  {job.state if not code else f'exit code {code}'}", flush=True)

    failed = Local(options.at_once, told).run(left)
    for job in failed:
        print(f"failed: {typed(job)}\n  see {job.directory / 'launcher.txt'}", file=sys.stderr)
    return bool(failed)


def conclude(
    jobs: list[PlannedRun], failed: bool, found: Contest | None, options: argparse.Namespace, out: Path
) -> int:
    """Compare the runs that have ended, after copying their records with --record; return the exit status."""
    from ranger21.grid.publish import publish_runs
    from ranger21.grid.record import comparison
    from ranger21.report.runs.record_file import NAME
    from ranger21.tuning.contest import publish

    code, tuned = 0, found.record if found else None
    file = options.record and options.record / NAME
    if any(job.ended for job in jobs):
        if file and not publish_runs(jobs, file, options.yes, functools.partial(print, flush=True)):
            print("nothing was copied or compared", file=sys.stderr)
            return 1
        if file and (older := file.with_name("runs")).is_dir():
            print(f"warning: {older} has records of an older version that are not in {file.name}", file=sys.stderr)
        if tuned and options.record:
            tuned = publish(tuned, options.record)
        arguments = comparison(jobs, options.record or out, file, tuned=tuned)
        code = subprocess.run([sys.executable, str(COMPARE), *arguments], check=False).returncode
    return 1 if failed else code


if __name__ == "__main__":
    with ending_well("continues with the remaining runs"):
        sys.exit(main())
