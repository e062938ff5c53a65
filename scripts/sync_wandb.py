#!/usr/bin/env python
"""Send W&B runs that W&B has not received to it, each as one run, from a machine with internet access."""

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
Send W&B runs that W&B has not received to it, each as one run, from a machine with internet access.

For clusters whose nodes have no internet: run it on the login node, after `wandb login`.
It also sends the runs that were online when the server was lost or the process was killed.
A run that was stopped and resumed has several fragments (wandb/offline-run-*, wandb/run-*).
They are merged, with each step once and the trainer's best values, and sent by `wandb sync`.
Rows that they lack come from metrics.jsonl. Runs that have not changed since they were sent
are skipped, so you can run this as often as you like. Runs that are still running are sent
with --watch only, if they record offline: W&B then shows their curves up to the last sending."""

EXAMPLES = """\
examples:
  send all runs below outputs
    python scripts/sync_wandb.py outputs

  send the runs that match a glob
    python scripts/sync_wandb.py "outputs/paper/*-ranger21-*"

  write the merged files and list what would be sent, without sending anything
    python scripts/sync_wandb.py outputs --dry-run

  send every ten minutes, running runs too, until Ctrl-C
    python scripts/sync_wandb.py outputs --watch 600

exit status: 0; 1 if a run could not be sent (it is named); 130 after Ctrl-C.
To send a run again, delete wandb/offline-merged in its directory."""


def main() -> int:
    """Run the command and return the exit status: 1 if a run could not be sent, else 0."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUNS", help="run directories, folders that contain them, or quoted globs"
    )
    parser.add_argument("--dry-run", action="store_true", help="merge the runs and list what would be sent")
    parser.add_argument(
        "--watch", type=as_seconds, metavar="SECONDS", help="repeat after this many seconds, and send running runs, too"
    )
    parser.add_argument(
        "--timeout",
        type=as_seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="limit for each run (default: %(default)s)",
    )
    options = parser.parse_args()
    told: set[str] = set()
    failed = once(options, told)
    while options.watch is not None:
        time.sleep(options.watch)
        failed = once(options, told)
    return int(failed)


def once(options: argparse.Namespace, told: set[str]) -> bool:
    """Send the runs that have changed and print new messages; return whether any run failed.

    `told` has the messages of the last call, which are not repeated, and is updated.
    """
    failed, said = False, set()
    try:
        for outcome in sync(options.runs, not options.dry_run, options.timeout, options.watch is not None):
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
    with ending_well("sends the remaining runs"):
        sys.exit(main())
