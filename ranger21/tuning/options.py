"""Parse the command line of scripts/tune.py into a tuning request."""

from __future__ import annotations

import argparse
import shlex

from ranger21.config.arguments import Parser, as_seconds, as_whole
from ranger21.config.compose import compose_config
from ranger21.grid.options import add_at_once
from ranger21.grid.presets import PRESETS
from ranger21.system.errors import UserError
from ranger21.tuning.plan import TuningRequest
from ranger21.tuning.points import MOST

HELP = """\
Tune several optimizers with equal effort: each in its own search space
(configs/space/OPTIMIZER.yaml), all with the same number of trials, at the same points of one
fixed quasi-random sequence.

A trial is a run of train.py in OUTPUTS/tuning, with one seed. Its objective is the final top-1
on a holdout of the training set (data.holdout=N); the official validation set is never read. A
trial that diverges is worse than all others. The results are in OUTPUTS/tuning/tuned.json.

Repeat the command to resume: no trial runs twice, and runs that exist already are reused. Run
it in several terminals, or on several machines with a shared file system, to divide the trials
among them; the result does not depend on which worker ran which trial."""
EXAMPLES = """\
examples:
  show what would run, and how long it takes
    python scripts/tune.py experiment=fashion_mnist data.holdout=5000 --optimizers ranger21,adamw --dry-run
  16 trials per optimizer, two at a time
    python scripts/tune.py experiment=fashion_mnist data.holdout=5000 --optimizers ranger21,adamw --at-once 2
  successive halving: all trials at 1/4 of the length, the best 8 at 1/2, the best 4 at full length
    python scripts/tune.py experiment=fashion_mnist data.holdout=5000 --optimizers ranger21,adamw --halving 3
  on a cluster: submit the trials; repeat the command to collect them and submit what follows
    python scripts/tune.py experiment=paper data.holdout=25000 --seed 5 --optimizers ranger21,adamw --launcher slurm \\
        --at-once 8 --sbatch="--account=abc@v100 --time=20:00:00"
  show the progress
    python scripts/tune.py experiment=fashion_mnist data.holdout=5000 --optimizers ranger21,adamw --status"""
RUNGS = 8
TRIALS = 16  # per optimizer, unless the preset says otherwise


def parse() -> argparse.Namespace:
    """Parse the command line. Raises a UserError for options that do not fit together."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--optimizers", metavar="NAME,NAME", help="optimizers to tune; each needs a file in configs/space"
    )
    parser.add_argument("--preset", choices=PRESETS, help="tune the experiments and optimizers of this preset")
    parser.add_argument(
        "--trials",
        type=as_whole(1, MOST + 1),
        metavar="N",
        help=f"trials per optimizer (default: {TRIALS}, or the preset's)",
    )
    parser.add_argument(
        "--seed", type=as_whole(0), default=0, metavar="N", help="seed of all trials (default: %(default)s)"
    )
    parser.add_argument(
        "--halving",
        type=as_whole(2, RUNGS + 1),
        metavar="RUNGS",
        help="successive halving: each rung runs the better half of the previous rung's trials for twice as long, with "
        "a schedule of that length; the same for all optimizers",
    )
    parser.add_argument(
        "--widen",
        action="store_true",
        help="if a winner is at an edge of its space, run a second round of as many trials for all optimizers of the "
        "experiment, in spaces that are ten times as wide on that side",
    )
    return parsed(parser)


def parsed(parser: Parser) -> argparse.Namespace:
    """Add the options for launching and watching trials, and the overrides, to a parser; parse the command line.

    Raises:
        UserError: options do not fit together.
    """
    parser.add_argument(
        "--launcher", choices=("local", "slurm"), default="local", help="where to run (default: %(default)s)"
    )
    add_at_once(parser)
    parser.add_argument("--sbatch", default="", metavar="OPTIONS", help="further options for sbatch, as one string")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and the cost, and run nothing")
    parser.add_argument(
        "--status", action="store_true", help="show a table of the trials: state, epoch, top-1, time left"
    )
    parser.add_argument("--every", type=as_seconds, metavar="SECONDS", help="with --status: repeat at this interval")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="experiment=… and further arguments for train.py"
    )
    options = parser.parse_intermixed_args()
    if options.every and not options.status:
        raise UserError("--every is only for --status: give both.")
    if options.sbatch and options.launcher != "slurm":
        raise UserError("--sbatch is only for --launcher=slurm: give both.")
    try:
        shlex.split(options.sbatch)
    except ValueError as error:
        raise UserError(f'--sbatch="{options.sbatch}" is not a command line ({error}).') from error
    return options


def requested(options: argparse.Namespace) -> TuningRequest:
    """Return the tuning request of a command line. Raises a UserError for an invalid one."""
    words = [(word.partition("=")[0].lstrip("+"), word) for word in options.overrides]
    experiments = [name for key, word in words if key == "experiment" for name in _names(word.partition("=")[2])]
    optimizers, trials = _names(options.optimizers or ""), options.trials
    if options.preset:
        if experiments:
            raise UserError("--preset chooses the experiments: omit experiment=.")
        experiments, of_preset = _tunable(options.preset)
        optimizers = optimizers or of_preset
        trials = trials or PRESETS[options.preset].trials
    if not experiments or not optimizers:
        raise UserError("Choose what to tune: experiment=NAME --optimizers NAME,NAME, or --preset NAME.")
    return TuningRequest(
        tuple(dict.fromkeys(experiments)),
        tuple(dict.fromkeys(optimizers)),
        trials or TRIALS,
        options.halving or 1,
        options.widen,
        options.seed,
        compose_config([word for key, word in words if key == "outputs"]).outputs,
        tuple(word for key, word in words if key not in ("experiment", "outputs")),
    )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _tunable(name: str) -> tuple[list[str], list[str]]:
    """Return the experiments and the optimizers of a preset. Raises a UserError if its runs set other keys too."""
    chosen = [dict(word.split("=", 1) for word in words) for words in PRESETS[name].runs(1)]
    if more := sorted({key for choice in chosen for key in choice} - {"experiment", "optimizer", "seed"}):
        raise UserError(f"--preset {name} cannot be tuned: its runs also set {', '.join(more)}.")
    return [choice["experiment"] for choice in chosen], [choice["optimizer"] for choice in chosen]
