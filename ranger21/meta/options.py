"""Parse the command line of scripts/compose.py into a request. Imports no torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ranger21.config.arguments import Parser, as_folder, as_input, as_whole
from ranger21.config.compose import compose_config
from ranger21.grid.options import add_record, check_record
from ranger21.system.errors import UserError
from ranger21.tuning.options import parsed

if TYPE_CHECKING:
    from ranger21.meta.plan import CompositionRequest

SEARCHES = ("thompson", "tpe", "random")
MOST = 1000  # full runs of a search, and searches
HELP = """\
Compose an optimizer for a task from the ingredients of docs/optimizers.md: which ones, their few
arguments, the schedule, the learning rate and the weight decay. This is the "meta-optimizer" that
the paper's last paragraph asks for.

searches:
  thompson  Thompson sampling with a Bayesian linear regression on ingredients and their pairs
  tpe       Optuna's tree-structured Parzen estimator
  random    random valid optimizers, the yardstick of the other two

Every trial is a run of train.py with optimizer=chain in OUTPUTS/compose, judged by the top-1 on a
holdout of the training set (data.holdout=N); the official validation set is read only at the end, when
the winners, tuned AdamW and tuned Ranger21 run on fresh seeds: on the task itself, and unchanged on the
tasks of --transfer. compose.md tells who won, how sure that is, and what helps with what.

One search is a single experiment: --searches 3 repeats it with other seeds, and the verdict is over
searches. Repeat the command to resume: no run starts twice."""
EXAMPLES = """\
examples:
  the budget, and the size of the space
    python scripts/compose.py experiment=fair_resnet --budget 16 --dry-run
  three searches of each kind, two runs at a time, beside optimizers tuned with the same budget
    python scripts/compose.py experiment=fair_resnet --budget 16 --search thompson,random --searches 3 --at-once 2 \\
        --tuned results/fair_cpu/tuned.json --transfer shapes
  on a cluster: submit the trials of a phase; repeat the command to go on
    python scripts/compose.py experiment=paper data.holdout=25000 protocol=none --budget 32 --launcher slurm \\
        --at-once 8 --sbatch="--account=abc@v100 --time=20:00:00"
  show the progress
    python scripts/compose.py experiment=fair_resnet --budget 16 --status"""


def parse() -> argparse.Namespace:
    """Parse the command line. Raises a UserError for options that do not fit together."""
    parser = Parser(description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--budget",
        type=as_whole(1, MOST + 1),
        required=True,
        metavar="N",
        help="the budget of each search, in full runs; a multiple of 4",
    )
    parser.add_argument(
        "--search", default="thompson", metavar="NAME,NAME", help="the searches to run (default: %(default)s)"
    )
    parser.add_argument(
        "--searches",
        type=as_whole(1, MOST + 1),
        default=1,
        metavar="N",
        help="how often to repeat each search, with the seeds 0, 1, … (default: %(default)s)",
    )
    parser.add_argument(
        "--tuned",
        type=as_input,
        metavar="FILE",
        help="a tuned.json with AdamW and Ranger21 in this experiment; without it, they are tuned here with as many "
        "trials as the budget",
    )
    parser.add_argument(
        "--transfer",
        default="",
        metavar="EXPERIMENT,…",
        help="experiments on which the winners run as well, unchanged: another model, another dataset",
    )
    parser.add_argument(
        "--seeds", type=as_whole(1, MOST), metavar="N", help="number of fresh seeds (default: the protocol's, or 5)"
    )
    parser.add_argument("--search-only", action="store_true", help="end after the searches, without the final runs")
    parser.add_argument(
        "--out",
        type=as_folder,
        metavar="DIR",
        help="for the results (default: OUTPUTS/compose-EXPERIMENT, followed by the arguments that change results)",
    )
    add_record(parser)
    options = parsed(parser)
    _require_sense(options)
    return options


def _require_sense(options: argparse.Namespace) -> None:
    check_record(options)
    finals = [name for name in ("tuned", "transfer", "seeds", "record") if getattr(options, name)]
    if options.search_only and finals:
        raise UserError(f"--search-only leaves out the final runs, which --{finals[0]} is for: omit one of the two.")
    for name in ("search", "transfer"):
        names = dict.fromkeys(part.strip() for part in getattr(options, name).split(","))
        if "" in names and getattr(options, name):
            raise UserError(f"--{name} {getattr(options, name)} has an empty name: separate names with one comma.")
        setattr(options, name, [one for one in names if one])
    if not options.search:
        raise UserError(f"--search is empty: choose from {', '.join(SEARCHES)}.")
    if unknown := [name for name in options.search if name not in SEARCHES]:
        raise UserError(f"There is no search {unknown[0]!r}: choose from {', '.join(SEARCHES)}.")


def requested(options: argparse.Namespace) -> CompositionRequest:
    """Return the request of a command line. Raises a UserError for an invalid one."""
    from ranger21.meta.plan import CompositionRequest

    words = [(word.partition("=")[0].lstrip("+"), word) for word in options.overrides]
    experiments = [word.partition("=")[2] for key, word in words if key == "experiment"]
    if len(experiments) != 1 or "," in experiments[0] or not experiments[0]:
        raise UserError("Choose the task with experiment=NAME; one at a time.")
    if experiments[0] in options.transfer:
        raise UserError(f"--transfer {experiments[0]} is the task of the search itself: choose another experiment.")
    for name in options.transfer:
        compose_config([f"experiment={name}"])
    return CompositionRequest(
        experiments[0],
        tuple(dict.fromkeys(options.search)),
        options.searches,
        options.budget,
        compose_config([word for key, word in words if key == "outputs"]).outputs,
        tuple(word for key, word in words if key not in ("experiment", "outputs")),
    )
