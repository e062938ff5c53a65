#!/usr/bin/env python
"""Run a whole comparison with one command: every model, optimizer and seed of it."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ranger21.arguments import as_folder, as_path, as_seconds, as_whole
from ranger21.ending import ending_well
from ranger21.errors import UserError
from ranger21.grid.presets import PRESETS

if TYPE_CHECKING:
    from ranger21.grid.jobs import Job
    from ranger21.grid.slurm import Slurm

COMPARE = Path(__file__).with_name("compare.py")
ABOUT = "\n".join(f"  {name:<14} {preset.seeds} seeds: {preset.about}" for name, preset in PRESETS.items())
HELP = f"""\
Run a whole comparison with one command: every model, optimizer and seed of it.

presets:
{ABOUT}

The same command again does only what is missing: finished and diverged runs are left alone, stopped
ones are resumed, failed ones are tried again, and what SLURM already holds is not submitted twice.
Ended runs with other settings or other images are refused; a warning tells if they are of other code."""
EXAMPLES = """\
examples:
  what would run, and what it costs by the images/s logged so far
    python scripts/reproduce.py --preset paper --dry-run data.root=/data/imagenet
  on this machine, two at a time
    python scripts/reproduce.py --preset fashion_mnist --at-once 2 logger=none
  on a cluster, eight jobs at a time; the comparison runs when they have ended
    python scripts/reproduce.py --preset paper --launcher slurm --at-once 8 data.pack=/data/packed \\
        --sbatch="--account=abc@v100 --time=20:00:00"
  how far it is, now and again until Ctrl-C
    python scripts/reproduce.py --preset paper --status --every 10 data.pack=/data/packed"""

MOST = 10_000  # seeds, and runs at a time


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


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python scripts/reproduce.py",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", required=True, choices=PRESETS, help="which comparison")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where (default: %(default)s)")
    parser.add_argument(
        "--seeds", type=as_whole(1, MOST + 1), metavar="N", help="seeds 0 to N - 1 of every configuration"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="the runs with this choice; can be given again"
    )
    parser.add_argument(
        "--at-once", type=as_whole(1, MOST + 1), default=1, metavar="N", help="runs at a time (default: %(default)s)"
    )
    parser.add_argument("--sbatch", default="", metavar="OPTIONS", help="further options of sbatch, as one string")
    parser.add_argument("--sbatch-compare", default="", metavar="OPTIONS", help="the same for the comparison's own job")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and the cost, and run nothing")
    parser.add_argument(
        "--machine",
        action="append",
        default=[],
        type=as_path,
        metavar="FILE",
        help="with --dry-run: the hours by what check_machine.py measured, where no run has logged its speed; can be "
        "given again (default: machine.json, if it is here and of these runs)",
    )
    parser.add_argument("--status", action="store_true", help="a table of the runs: state, epoch, top-1, time left")
    parser.add_argument("--every", type=as_seconds, metavar="SECONDS", help="with --status: again and again")
    parser.add_argument(
        "--out", type=as_folder, metavar="DIR", help="the comparison (default: OUTPUTS/PRESET-comparison)"
    )
    parser.add_argument(
        "--record",
        type=as_folder,
        metavar="DIR",
        help="also copy the runs' records (no checkpoints) there, fit to be published, and compare there; what is in "
        "them is shown before",
    )
    parser.add_argument("--yes", action="store_true", help="with --record: copy without asking")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="further arguments for train.py")
    options = parser.parse_intermixed_args()
    require_sense(options)
    return options


def require_sense(options: argparse.Namespace) -> None:
    """Raise a UserError for values that are not possible, and for options that would change nothing."""
    if options.record and options.launcher == "slurm":
        raise UserError("--record is for runs that have ended: give it with --launcher=local when SLURM is done.")
    if options.record and options.out:
        raise UserError("--record has the comparison beside the records: leave --out away.")
    if options.yes and not options.record:
        raise UserError("--yes is for --record: give both.")
    if options.record and not (options.yes or options.dry_run or options.status or sys.stdin.isatty()):
        raise UserError(
            "--record asks before it copies, and there is no terminal to ask at: look at what it would copy with "
            "--record DIR --dry-run, then give --yes."
        )
    if options.machine and not options.dry_run:
        raise UserError("--machine is for --dry-run: give both.")
    if options.every and not options.status:
        raise UserError("--every is for --status: give both.")
    for option, text in (("--sbatch", options.sbatch), ("--sbatch-compare", options.sbatch_compare)):
        if text and options.launcher != "slurm":
            raise UserError(f"{option} is for --launcher=slurm: give both.")
        try:
            shlex.split(text)
        except ValueError as error:
            raise UserError(f'{option}="{text}" is not a command line ({error}).') from error


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
    from ranger21.grid.record import comparison, publication, records
    from ranger21.stopping import heeded

    if options.dry_run:
        print("\n".join(typed(job) for job in left))
        if options.record:
            print(f"# --record would copy {publication(records(jobs))}")
        return 0
    for number in heeded():
        signal.signal(number, signal.default_int_handler)
    done = len(jobs) - len(left)

    def told(job: Job, code: int) -> None:
        nonlocal done
        done += 1
        print(f"{done}/{len(jobs)}  {job.directory}  {job.state if not code else f'exit code {code}'}", flush=True)

    failed = Local(options.at_once, told).run(left)
    for job in failed:
        print(f"failed: {typed(job)}\n  see {job.directory / 'launcher.txt'}", file=sys.stderr)
    code = 0
    if any(job.ended for job in jobs):
        runs = options.record and options.record / "runs"
        if runs and not copied(jobs, runs, options.yes):
            return 1
        arguments = comparison(jobs, options.record or out, runs)
        code = subprocess.run([sys.executable, str(COMPARE), *arguments], check=False).returncode
    return 1 if failed else code


def copied(jobs: list[Job], runs: Path, yes: bool) -> bool:
    """Show what is to be copied for a publication, and copy it; False if the user would rather not."""
    from ranger21.grid.record import publication, record, records

    found = records(jobs)
    print(f"--record copies {publication(found)}", flush=True)
    if not yes and input(f"copy them to {runs}? [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was copied, and nothing compared", file=sys.stderr)
        return False
    print(f"{record(found, runs)} records copied to {runs}")
    return True


if __name__ == "__main__":
    with ending_well("does what is missing"):
        sys.exit(main())
