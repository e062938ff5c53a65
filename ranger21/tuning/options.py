"""The command line of scripts/tune.py, and what it asks for."""

from __future__ import annotations

import argparse
import shlex

from ranger21.config.arguments import Parser, as_seconds, as_whole
from ranger21.config.compose import compose_config
from ranger21.grid.presets import PRESETS
from ranger21.system.errors import UserError
from ranger21.tuning.plan import Request
from ranger21.tuning.points import MOST

HELP = """\
Tune several optimizers alike: each in its own space (configs/space/OPTIMIZER.yaml), all with
the same number of trials at the same points of one quasi-random sequence, drawn beforehand.

A trial is a run of train.py below OUTPUTS/tuning, with one seed, judged by its top-1 on a
holdout of the training set (data.holdout=N) at its end; the official validation set is never
read. A trial that diverges is worse than any other. OUTPUTS/tuning/tuned.json says what came.

The same command again goes on: no trial runs twice. Typed again beside itself, in another
terminal or on another machine with the same files, it shares the trials; the outcome is the
same, whoever ran what. What is there already is adopted, wherever it comes from."""
EXAMPLES = """\
examples:
  what would run, and what it costs
    python scripts/tune.py experiment=fashion_mnist data.holdout=5000 --optimizers ranger21,adamw --dry-run
  16 trials each, two at a time
    python scripts/tune.py experiment=fashion_mnist data.holdout=5000 --optimizers ranger21,adamw --at-once 2
  half of the trials at each of three lengths: all at a quarter, the best 8 at a half, the best 4 whole
    python scripts/tune.py experiment=fashion_mnist data.holdout=5000 --optimizers ranger21,adamw --halving 3
  on a cluster: submits the trials; typed again, it collects them, and submits what follows
    python scripts/tune.py experiment=paper data.holdout=25000 --optimizers ranger21,adamw --launcher slurm \\
        --at-once 8 --sbatch="--account=abc@v100 --time=20:00:00"
  how far it is
    python scripts/tune.py experiment=fashion_mnist data.holdout=5000 --optimizers ranger21,adamw --status"""
LONGEST = 10_000  # runs at a time
RUNGS = 8


def parse() -> argparse.Namespace:
    """The command line."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--optimizers", metavar="NAME,NAME", help="those to tune, each with a file in configs/space")
    parser.add_argument("--preset", choices=PRESETS, help="the experiments and optimizers of a comparison")
    parser.add_argument(
        "--trials", type=as_whole(1, MOST + 1), metavar="N", help="of each optimizer (default: 16, or the preset's)"
    )
    parser.add_argument("--seed", type=as_whole(0), default=0, metavar="N", help="of every run (default: %(default)s)")
    parser.add_argument(
        "--halving",
        type=as_whole(2, RUNGS + 1),
        metavar="RUNGS",
        help="successive halving: each rung has half of the trials of the one before, at twice the length, with a "
        "schedule of that length; the same for all optimizers",
    )
    parser.add_argument(
        "--widen",
        action="store_true",
        help="where a winner is at an edge of its space, a second round of as many trials for all optimizers of the "
        "experiment, in spaces ten times as wide there",
    )
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="where (default: %(default)s)")
    parser.add_argument(
        "--at-once", type=as_whole(1, LONGEST + 1), default=1, metavar="N", help="runs at a time (default: %(default)s)"
    )
    parser.add_argument("--sbatch", default="", metavar="OPTIONS", help="further options of sbatch, as one string")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and the cost, and run nothing")
    parser.add_argument("--status", action="store_true", help="a table of the trials: state, epoch, top-1, time left")
    parser.add_argument("--every", type=as_seconds, metavar="SECONDS", help="with --status: again and again")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="experiment=… and further arguments for train.py"
    )
    options = parser.parse_intermixed_args()
    if options.every and not options.status:
        raise UserError("--every is for --status: give both.")
    if options.sbatch and options.launcher != "slurm":
        raise UserError("--sbatch is for --launcher=slurm: give both.")
    try:
        shlex.split(options.sbatch)
    except ValueError as error:
        raise UserError(f'--sbatch="{options.sbatch}" is not a command line ({error}).') from error
    return options


def requested(options: argparse.Namespace) -> Request:
    """What the command line asks for."""
    words = [word.partition("=") for word in options.overrides]
    experiments = [
        name for key, _, names in words if key.lstrip("+") == "experiment" for name in names.split(",") if name
    ]
    outputs = ["".join(word) for word in words if word[0].lstrip("+") == "outputs"]
    optimizers = [name for name in (options.optimizers or "").split(",") if name]
    trials = options.trials or 16
    if options.preset:
        if experiments:
            raise UserError("--preset has its own experiments: leave experiment= away.")
        preset = PRESETS[options.preset]
        chosen = [dict(word.split("=", 1) for word in words) for words in preset.runs(1)]
        if more := sorted({key for choice in chosen for key in choice} - {"experiment", "optimizer", "seed"}):
            raise UserError(f"--preset {options.preset} is not one to tune: its runs choose {', '.join(more)}, too.")
        experiments = [choice["experiment"] for choice in chosen]
        optimizers = optimizers or [choice["optimizer"] for choice in chosen]
        trials = options.trials or getattr(preset, "trials", 0) or 16
    if not experiments or not optimizers:
        raise UserError("Say what is to be tuned: experiment=NAME --optimizers NAME,NAME, or --preset NAME.")
    return Request(
        tuple(dict.fromkeys(experiments)),
        tuple(dict.fromkeys(optimizers)),
        trials,
        options.halving or 1,
        options.widen,
        options.seed,
        compose_config(outputs).outputs,
        tuple("".join(word) for word in words if word[0].lstrip("+") not in ("experiment", "outputs")),
    )
