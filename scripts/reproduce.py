#!/usr/bin/env python
"""Run a whole comparison with one command: every model, optimizer and seed of it."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ranger21.ending import ending_well
from ranger21.errors import UserError
from ranger21.grid.options import parse
from ranger21.grid.presets import PRESETS

if TYPE_CHECKING:
    from ranger21.grid.jobs import Job
    from ranger21.grid.slurm import Slurm

COMPARE = Path(__file__).with_name("compare.py")


def main() -> int:
    """Run the command; the exit status is 1 if a run or the comparison failed."""
    options = parse()
    from ranger21.grid.jobs import expand
    from ranger21.grid.likeness import other_code, require_these
    from ranger21.grid.slurm import Slurm
    from ranger21.records import in_use

    jobs = expand(PRESETS[options.preset], options.seeds, options.only, options.overrides)
    outputs = Path(jobs[0].config.outputs)
    sbatch = (shlex.split(options.sbatch), shlex.split(options.sbatch_compare))
    slurm = Slurm(outputs / ".grid" / options.preset, *sbatch)
    if options.status:
        return status(jobs, slurm, options.every)
    queued = slurm.queued()
    for doubt in require_these(jobs):
        print(f"warning: {doubt}", file=sys.stderr)
    left = [job for job in jobs if not (job.ended or job.directory in queued or in_use(job.directory))]
    tell_cost(jobs, left, options)
    if left and (warning := other_code(jobs)):
        print(f"warning: {warning}", file=sys.stderr, flush=True)
    out = options.out or outputs / f"{options.preset}-comparison"
    return (submit if options.launcher == "slurm" else run_here)(jobs, left, slurm, options, out)


def tell_cost(jobs: list[Job], left: list[Job], options: argparse.Namespace) -> None:
    """How many runs there are, and what those to do will cost."""
    from ranger21.grid.cost import cost, require_use
    from ranger21.machine.record import NAME, read

    machines = [read(path) for path in options.machine]
    require_use(jobs, machines)
    if options.dry_run and not machines and Path(NAME).exists():  # the one that lies here is used if it fits
        try:
            machines = [read(Path(NAME))]
            require_use(jobs, machines)
        except UserError as error:
            print(f"{NAME} is not used: {error}", file=sys.stderr)
            machines = []
    ended = sum(job.ended for job in jobs)
    held = len(jobs) - ended - len(left)
    going = f", {held} running or held by SLURM" if held else ""
    print(f"{len(jobs)} runs: {ended} ended{going}; {cost(jobs, machines).sentence(options.at_once)}", flush=True)


def status(jobs: list[Job], slurm: Slurm, every: float | None) -> int:
    """Print the table once, or keep it up to date."""
    from rich.console import Console
    from rich.live import Live

    from ranger21.grid.progress import table

    console = Console() if sys.stdout.isatty() else Console(width=160)
    if every is None:
        console.print(table(jobs, slurm))
        return 0
    with Live(table(jobs, slurm), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(table(jobs, slurm), refresh=True)


def submit(jobs: list[Job], left: list[Job], slurm: Slurm, options: argparse.Namespace, out: Path) -> int:
    """Submit what is left, or print how."""
    from ranger21.grid.record import comparison
    from ranger21.grid.slurm import NOTHING

    arguments = comparison(jobs, out)
    told = NOTHING
    if not options.dry_run:
        told = slurm.submit(left, options.at_once, arguments)
    elif (plan := slurm.plan(left, options.at_once, arguments)).compare:
        if plan.jobs:
            print(f"# {plan.runs}: one run a line\n" + "\n".join(shlex.join(job.overrides) for job in plan.jobs))
        told = "\n".join(shlex.join(command) for command in (plan.array, plan.compare) if command)
    by_hand = f"; the comparison by hand: python scripts/compare.py {shlex.join(arguments)}" if told == NOTHING else ""
    print(told + by_hand)
    return 0


def run_here(jobs: list[Job], left: list[Job], slurm: Slurm, options: argparse.Namespace, out: Path) -> int:
    """Run what is left on this machine, and compare. Ctrl-C lets the runs save a checkpoint."""
    from ranger21.grid.local import Local, typed
    from ranger21.grid.record import comparison, publication, record, records
    from ranger21.report.record_file import NAME
    from ranger21.stopping import heeded

    if options.dry_run:
        print("\n".join(typed(job) for job in left))
        if options.record:
            print(f"# --record would copy {publication(records(jobs))}")
        return 0
    for number in heeded():
        signal.signal(number, signal.default_int_handler)
    done = len(jobs) - len(left)

    file, one_at_a_time = options.record and options.record / NAME, threading.Lock()

    def told(job: Job, code: int) -> None:
        with one_at_a_time:
            tell(job, code)

    def tell(job: Job, code: int) -> None:
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
    code = 0
    if any(job.ended for job in jobs):
        if file and not copied(jobs, file, options.yes):
            return 1
        arguments = comparison(jobs, options.record or out, file)
        code = subprocess.run([sys.executable, str(COMPARE), *arguments], check=False).returncode
    return 1 if failed else code


def copied(jobs: list[Job], file: Path, yes: bool) -> bool:
    """Show what is to be copied for a publication, and copy it; False if the user would rather not."""
    from ranger21.grid.record import publication, record, records

    found = records(jobs)
    print(f"--record copies {publication(found)}", flush=True)
    if not yes and input(f"copy them to {file}? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was copied, and nothing compared", file=sys.stderr)
        return False
    print(f"{record(found, file)} records copied to {file}")
    if (older := file.with_name("runs")).is_dir():
        print(f"warning: {older} has records of an older version, which are not in {file.name}", file=sys.stderr)
    return True


if __name__ == "__main__":
    with ending_well("does what is missing"):
        sys.exit(main())
