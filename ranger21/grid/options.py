"""The command line of scripts/reproduce.py."""

from __future__ import annotations

import argparse
import shlex
import sys

from ranger21.config.arguments import Parser, as_folder, as_path, as_seconds, as_whole
from ranger21.grid.presets import PRESETS
from ranger21.system.errors import UserError

ABOUT = "\n".join(f"  {name:<14} {preset.seeds} seeds: {preset.about}" for name, preset in PRESETS.items())
HELP = f"""\
Run a whole comparison with one command: every model, optimizer and seed of it.

presets:
{ABOUT}

The same command again does only what is missing: finished and diverged runs are left alone, stopped
ones are resumed, failed ones are tried again, and what SLURM already holds is not submitted twice.
Ended runs with other settings or other images are refused; a warning tells if they are of other code.

fair_cpu and imagenet100 tune every optimizer alike on a holdout of the training set, run the untuned
defaults and the winners on fresh seeds, and compare them; tuning.md says what was tried."""
EXAMPLES = """\
examples:
  what would run, and what it costs by the images/s logged so far
    python scripts/reproduce.py --preset paper --dry-run data.root=/data/imagenet
  on this machine, two at a time
    python scripts/reproduce.py --preset fashion_mnist --at-once 2 logger=none
  on a cluster, eight jobs at a time; the comparison runs when they have ended
    python scripts/reproduce.py --preset paper --launcher slurm --at-once 8 data.pack=/data/packed \\
        --sbatch="--account=abc@v100 --time=20:00:00"
  tuned and untuned on one workload: trials, runs, comparison
    python scripts/reproduce.py --preset fair_cpu --only experiment=fair_deep --at-once 2 logger=none
  how far it is, now and again until Ctrl-C
    python scripts/reproduce.py --preset paper --status --every 10 data.pack=/data/packed"""
MOST = 10_000  # seeds, and runs at a time


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
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
        help="also keep the runs' records in DIR/runs.jsonl.gz, fit to be published, and compare in DIR; what is in "
        "them is shown before",
    )
    parser.add_argument("--yes", action="store_true", help="with --record: copy without asking")
    parser.add_argument(
        "--tuned",
        type=as_path,
        metavar="FILE",
        help="of a preset that tunes first: the winners of this tuned.json, which are not tuned again",
    )
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
    if options.tuned and not PRESETS[options.preset].trials:
        raise UserError(f"--tuned is for a preset that tunes first, and {options.preset} does not: leave it away.")
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
