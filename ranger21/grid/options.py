"""The command line of scripts/reproduce.py."""

from __future__ import annotations

import argparse
import shlex
import sys

from ranger21.config.arguments import Parser, as_folder, as_input, as_seconds, as_whole
from ranger21.grid.presets import PRESETS
from ranger21.system.errors import UserError

ABOUT = "\n".join(f"  {name:<14} {preset.seeds} seeds: {preset.about}" for name, preset in PRESETS.items())
HELP = f"""\
Run a whole comparison with one command: every model, optimizer and seed.

presets:
{ABOUT}

Run the same command again to do what is missing: finished and diverged runs are kept, stopped runs
are resumed, failed runs are tried again, and runs that are in SLURM's queue are not submitted twice.
If an ended run has other settings or other images, the command refuses to go on; if it was made by
other code, the command warns.

fair_cpu and imagenet100 tune every optimizer alike on a holdout of the training set, run the untuned
defaults and the winners on fresh seeds, and compare them; tuning.md lists what was tried."""
EXAMPLES = """\
examples:
  show what would run, and its cost at the images/s logged so far
    python scripts/reproduce.py --preset paper --dry-run data.root=/data/imagenet
  the same, at the images/s of 40 steps of each training on this machine
    python scripts/reproduce.py --preset paper --dry-run --measure data.root=/data/imagenet
  run on this machine, two runs at a time
    python scripts/reproduce.py --preset fashion_mnist --at-once 2 logger=none
  run on a cluster, eight runs at a time; the comparison starts when they have ended
    python scripts/reproduce.py --preset paper --launcher slurm --at-once 8 data.pack=/data/packed \\
        --sbatch="--account=abc@v100 --time=20:00:00"
  compare tuned and untuned optimizers on one workload: trials, runs, comparison
    python scripts/reproduce.py --preset fair_cpu --only experiment=fair_deep --at-once 2 logger=none
  show the progress every ten seconds until Ctrl-C
    python scripts/reproduce.py --preset paper --status --every 10 data.pack=/data/packed"""
MOST = 10_000  # seeds, and runs at a time


def parse() -> argparse.Namespace:
    """Parse and check the command line."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", required=True, choices=PRESETS, help="the comparison to run")
    parser.add_argument(
        "--launcher", choices=("local", "slurm"), default="local", help="where to run (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=as_whole(1, MOST + 1), metavar="N", help="number of seeds of every configuration"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="KEY=VALUE", help="only the runs with this choice; repeatable"
    )
    add_at_once(parser)
    _add_slurm_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the commands and the cost; run nothing")
    parser.add_argument(
        "--machine",
        action="append",
        default=[],
        type=as_input,
        metavar="FILE",
        help="with --dry-run: a file of check_machine.py to estimate the hours where no run has logged its speed; "
        "repeatable (default: machine.json in the current folder, if it measured these runs)",
    )
    parser.add_argument(
        "--measure",
        action="store_true",
        help="with --dry-run: estimate the hours from 40 steps, trained here and in a temporary folder, of each model, "
        "optimizer and dataset whose speed is unknown",
    )
    parser.add_argument(
        "--status", action="store_true", help="show a table: state, share done, epoch, top-1, time left"
    )
    parser.add_argument("--every", type=as_seconds, metavar="SECONDS", help="with --status: repeat until Ctrl-C")
    _add_results_options(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="further arguments for train.py")
    options = parser.parse_intermixed_args()
    require_sense(options)
    return options


def add_at_once(parser: Parser) -> None:
    """Add --at-once, of this command and of scripts/tune.py."""
    parser.add_argument(
        "--at-once",
        type=as_whole(1, MOST + 1),
        default=1,
        metavar="N",
        help="runs at a time, each on its own GPU (default: %(default)s)",
    )


def _add_slurm_options(parser: Parser) -> None:
    parser.add_argument("--sbatch", default="", metavar="OPTIONS", help="further options of sbatch, as one string")
    parser.add_argument(
        "--sbatch-compare", default="", metavar="OPTIONS", help="sbatch options of the comparison's job"
    )
    parser.add_argument(
        "--data-on-nodes",
        action="store_true",
        help="with --launcher=slurm: do not look for the data, which only the compute nodes can read",
    )
    parser.add_argument(
        "--cancel",
        action="store_true",
        help="cancel the SLURM jobs of these runs and of their comparison only; with --dry-run, print the command",
    )


def _add_results_options(parser: Parser) -> None:
    parser.add_argument(
        "--out",
        type=as_folder,
        metavar="DIR",
        help="for the comparison (default: OUTPUTS/PRESET-comparison, "
        "followed by --only and the overrides that change results)",
    )
    add_record(parser)
    parser.add_argument(
        "--tuned",
        type=as_input,
        metavar="FILE",
        help="for a preset that tunes first: use the winners in this tuned.json instead of tuning",
    )


def add_record(parser: Parser) -> None:
    """Add --record and --yes, of this command and of scripts/compose.py."""
    parser.add_argument(
        "--record",
        type=as_folder,
        metavar="DIR",
        help="also copy the runs' records to DIR/runs.jsonl.gz for publication, and write the comparison to DIR; "
        "a summary of their content is shown first",
    )
    parser.add_argument("--yes", action="store_true", help="with --record: copy without asking")


def require_sense(options: argparse.Namespace) -> None:
    """Raise a UserError for invalid values, and for options that would have no effect."""
    check_record(options)
    if options.tuned and not PRESETS[options.preset].trials:
        raise UserError(f"--tuned is only for presets that tune first, and {options.preset} does not: omit it.")
    if options.machine and not options.dry_run:
        raise UserError("--machine is only for --dry-run: give both.")
    if options.measure and not options.dry_run:
        raise UserError("--measure is only for --dry-run: give both.")
    if options.measure and (options.status or options.cancel):
        raise UserError("--measure excludes --status and --cancel: give one of them.")
    if options.measure and options.launcher == "slurm":
        raise UserError(
            "--measure measures this machine, but --launcher=slurm runs on others: run it on a compute node (srun …), "
            "with --launcher=local."
        )
    if options.cancel and (options.status or options.record):
        raise UserError("--cancel excludes --status and --record: give one of them.")
    if options.every and not options.status:
        raise UserError("--every is only for --status: give both.")
    if options.data_on_nodes and options.launcher != "slurm":
        raise UserError("--data-on-nodes is only for --launcher=slurm: give both.")
    for option, text in (("--sbatch", options.sbatch), ("--sbatch-compare", options.sbatch_compare)):
        if text and options.launcher != "slurm":
            raise UserError(f"{option} is only for --launcher=slurm: give both.")
        try:
            shlex.split(text)
        except ValueError as error:
            raise UserError(f'{option}="{text}" is not a command line ({error}).') from error


def check_record(options: argparse.Namespace) -> None:
    """Raise a UserError if --record has options that exclude it, or lacks what it needs."""
    if options.record and options.launcher == "slurm":
        raise UserError("--record needs ended runs: when the SLURM jobs have ended, use it with --launcher=local.")
    if options.record and options.out:
        raise UserError("--record chooses the output directory: omit --out.")
    if options.yes and not options.record:
        raise UserError("--yes is only for --record: give both.")
    if options.record and not (options.yes or options.dry_run or options.status or sys.stdin.isatty()):
        raise UserError(
            "--record asks before it copies, but there is no terminal to ask at: check what it would copy with "
            "--record DIR --dry-run, then give --yes."
        )
