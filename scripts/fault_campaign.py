#!/usr/bin/env python
"""Kill, starve and damage runs on purpose, and see whether they end as if nothing had been."""

from __future__ import annotations

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ranger21.arguments import as_folder, as_whole
from ranger21.ending import ending_well

HELP = """\
Inject faults into the demo, cut to a few small steps, and run the same command again
until it finishes; then compare with a run that nothing had happened to.

  while it runs      SIGKILL, SIGTERM, SIGUSR1 (also while it starts), one of two ranks killed,
                     the disk full (no file may grow beyond a part of a checkpoint),
                     a loader process killed, W&B's process killed
  between two runs   last.pt cut short, or with a flipped byte; metrics.jsonl with a torn end;
                     another number of ranks: 1, 2, 1, ... with the same global batch

Several faults hit every run. Which ones, and when, follows from --seed (moments within a step
are the machine's). A fault is recovered if the run ended as it should (exit code, a sentence),
went on from the newest whole checkpoint, and finished. The weights, the optimizer's state and
metrics.jsonl (but for times) must be those of the undisturbed run bit for bit; where the number
of ranks changes, sums are made in another order, and the weights must agree within 1e-5.
The exit status is 1 if any fault was not recovered or any run differs."""

EXAMPLES = """\
examples:
  python scripts/fault_campaign.py                               120 faults, on one rank, on two, and in turn
  python scripts/fault_campaign.py --fork                        the same in a quarter of the processors' time
  python scripts/fault_campaign.py --faults 10 --ranks 1         a short look
  python scripts/fault_campaign.py --seed 1 --work outputs/f1    other faults

The same command again goes on where it stopped, and looks at the finished runs anew; with more
--faults it injects as many more.
written to --out: table.md, faults.json; to --work: the runs, what they said, sessions.jsonl"""


def main() -> int:
    """Run the command; the exit status is 1 if the campaign failed."""
    parser = argparse.ArgumentParser(
        prog="python scripts/fault_campaign.py",
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

    console = Console() if sys.stdout.isatty() else Console(width=200)
    options.out.mkdir(parents=True, exist_ok=True)  # before the long part: a place that cannot be used is told now
    say = partial(print, flush=True)
    whole = Campaign(options.work, options.faults, options.seed, options.ranks, options.fork, say)
    whole.go()
    outcome = Outcome(whole.legs, whole.judged(), whole.likenesses())
    console.print(outcome.terminal())
    for remark in outcome.remarks():
        console.print(f"- {remark}", markup=False, highlight=False)
    for path in outcome.write(options.out, facts(sum(record.seconds for record in whole.records))):
        print(f"wrote {path}")
    return 0 if outcome.good() else 1


def facts(seconds: float) -> dict[str, Any]:
    """What a reader should know: command, code, versions, when and on what."""
    from ranger21.sessions import session as describe

    session = describe(0, "cpu", 0)
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": session["started"][:10],
        "commit": (session["git"] or {}).get("commit"),
        "versions": ", ".join(f"{name} {version}" for name, version in session["packages"].items()),
        "machine": f"{session['hardware']['cores']} cores, Linux",
        "minutes": round(seconds / 60, 1),
    }


if __name__ == "__main__":
    with ending_well("goes on from there"):
        sys.exit(main())
