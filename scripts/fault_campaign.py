#!/usr/bin/env python
"""Kill, starve and damage runs on purpose, and see whether they end as if nothing had been."""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _installed

from ranger21.config.arguments import Parser, as_folder, as_whole
from ranger21.config.ending import ending_well

if TYPE_CHECKING:
    from ranger21.faults.kinds import Record

HELP = """\
Inject faults into the demo, cut to a few small steps, and run the same command again
until it finishes; then compare with a run that nothing had happened to.

  while it runs      SIGKILL, SIGTERM, SIGUSR1, SIGHUP (also while it starts); one of two ranks
                     killed, or stopped for longer than the patience; all ranks stopped for a
                     while; a loader process or W&B's (offline, online) killed; a kill between
                     last.pt and best.pt; the disk or the inode table full; the directory
                     renamed; metrics.jsonl or .lock deleted
  while it starts    two starts at once; killed while it draws the images; reads of a checkpoint
                     fail; the clock set back
  between two starts last.pt cut short, with a flipped bit anywhere or outside the tensors, or of
                     another run; no whole checkpoint left; metrics.jsonl torn, shorter or gone;
                     a node's copy of a pack poisoned; another number of ranks: 1, 2, 1, ...

Several faults hit every run. Which ones, and when, follows from --seed (moments within a step
are the machine's). A fault is recovered if the run ended as it should (exit code, a sentence),
went on from the newest whole checkpoint, and finished. The weights, the optimizer's state and
metrics.jsonl (but for times) must be those of the undisturbed run bit for bit; where the number
of ranks changes, sums are made in another order, and the weights must agree within 1e-10.
What needs root (a file system of its own, for the inode table) is skipped otherwise, and named.
The exit status is 1 if any fault was not recovered or any run differs."""

EXAMPLES = """\
examples:
  python scripts/fault_campaign.py                               120 faults, on one rank, on two, and in turn
  python scripts/fault_campaign.py --fork                        the same in a quarter of the processors' time
  python scripts/fault_campaign.py --faults 10 --ranks 1         a short look
  python scripts/fault_campaign.py --faults 1000 --fork          every kind many times
  python scripts/fault_campaign.py --seed 1 --work outputs/f1    other faults

The same command again goes on where it stopped, and looks at the finished runs anew; with more
--faults it injects as many more.
written to --out: table.md, faults.json; to --work: the runs, what they said, sessions.jsonl"""


def main() -> int:
    """Run the command; the exit status is 1 if the campaign failed."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--faults", type=as_whole(), default=120, help="in all (default: %(default)s)")
    parser.add_argument("--seed", type=as_whole(0), default=0, help="of which fault hits when (default: %(default)s)")
    parser.add_argument("--ranks", choices=("1", "2", "both"), default="both", help="both: and changes between them")
    parser.add_argument(
        "--work", type=as_folder, default=Path("outputs/faults/work"), metavar="DIR", help="for the runs"
    )
    parser.add_argument("--out", type=as_folder, default=Path("outputs/faults"), metavar="DIR", help="for the table")
    parser.add_argument("--fork", action="store_true", help="start faster: forked, with the imports done already")
    return campaign(parser.parse_args())


def campaign(options: argparse.Namespace) -> int:
    # What takes long to import is imported where it is needed: --help and mistakes are told at once.
    from rich.console import Console

    from ranger21.faults.campaign import Campaign
    from ranger21.faults.table import Outcome
    from ranger21.records.sessions import session

    console = Console() if sys.stdout.isatty() else Console(width=200)
    options.out.mkdir(parents=True, exist_ok=True)  # before the long part: a place that cannot be used is told now
    say = partial(print, flush=True)
    now = session(0, "cpu", 0)
    commit = (now["git"] or {}).get("commit") or ""
    whole = Campaign(options.work, options.faults, options.seed, options.ranks, options.fork, commit, say)
    whole.go()
    outcome = Outcome(whole.legs, whole.judged(), whole.likenesses(), whole.skipped)
    console.print(outcome.terminal())
    for remark in outcome.remarks():
        console.print(f"- {remark}", markup=False, highlight=False)
    for path in outcome.write(options.out, facts(now, whole.records)):
        print(f"wrote {path}")
    return 0 if outcome.good() else 1


def facts(now: dict[str, Any], records: list[Record]) -> dict[str, Any]:
    """Return what a reader should know: command, code, versions, when and on what."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": now["started"][:10],
        "commit": ", ".join(sorted({record.commit for record in records})),
        "started": ", ".join(sorted({record.start for record in records})),
        "versions": ", ".join(f"{name} {version}" for name, version in now["packages"].items()),
        "machine": f"{now['hardware']['cores']} cores, Linux",
        "minutes": round(sum(record.seconds for record in records) / 60, 1),
    }


if __name__ == "__main__":
    with ending_well("goes on from there"):
        sys.exit(main())
