#!/usr/bin/env python
"""Send offline W&B runs to W&B, each as one run, from a machine that reaches it."""

from __future__ import annotations

import argparse
import sys
import time

import _installed

from ranger21.config.arguments import Parser, as_seconds
from ranger21.config.ending import ending_well
from ranger21.system.errors import UserError
from ranger21.system.wording import printable
from ranger21.wandb_tools.sync import TIMEOUT, sync

HELP = """\
Send offline W&B runs to W&B, each as one run, from a machine that reaches it.

For clusters whose nodes have no internet: run it on the login node, after `wandb login`.
A run that was stopped and resumed has left several fragments (wandb/offline-run-*); they are
merged, each step once, with the best values as the trainer has them, and sent by
`wandb sync`. Runs that are still going are left for later, and those without news alone:
it may be run as often as one likes."""

EXAMPLES = """\
examples:
  everything there is
    python scripts/sync_wandb.py outputs

  some runs, chosen by a glob
    python scripts/sync_wandb.py "outputs/paper/*-ranger21-*"

  what would be sent; the merged files are written, and nothing leaves the machine
    python scripts/sync_wandb.py outputs --dry-run

  every ten minutes, until Ctrl-C
    python scripts/sync_wandb.py outputs --watch 600

exit status: 0, or 1 if a run could not be sent (it is named), and 130 after Ctrl-C.
To send a run again, delete wandb/offline-merged in its directory."""


def main() -> int:
    """Run the command; the exit status is 1 after a failure or a mistake of the user's."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="run directories, parents of them, or quoted globs")
    parser.add_argument("--dry-run", action="store_true", help="merge and say what would be sent, send nothing")
    parser.add_argument("--watch", type=as_seconds, metavar="SECONDS", help="again and again, so many seconds apart")
    parser.add_argument(
        "--timeout", type=as_seconds, default=TIMEOUT, metavar="SECONDS", help="for each run (default: %(default)s)"
    )
    options = parser.parse_args()
    told: set[str] = set()
    failed = once(options, told)
    while options.watch is not None:
        time.sleep(options.watch)
        failed = once(options, told)
    return int(failed)


def once(options: argparse.Namespace, told: set[str]) -> bool:
    """Send what there is and say what was not said the last time; returns whether anything failed."""
    failed, said = False, set()
    try:
        for outcome in sync(options.runs, not options.dry_run, options.timeout):
            failed |= outcome.failed
            said.add(outcome.sentence)
            if outcome.sentence not in told:
                print(printable(outcome.sentence), file=sys.stderr if outcome.failed else sys.stdout, flush=True)
    except UserError as error:
        failed = True
        said.add(str(error))
        if str(error) not in told:
            print(printable(f"error: {error}"), file=sys.stderr, flush=True)
    told.clear()
    told.update(said)
    return failed


if __name__ == "__main__":
    with ending_well("sends what is new"):
        sys.exit(main())
