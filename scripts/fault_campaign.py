#!/usr/bin/env python
"""Inject faults into runs, and check that they end like an undisturbed run."""

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
    from ranger21.faults.kinds import SessionRecord

HELP = """\
Inject faults into the demo, shortened to a few small steps, and run the same command again
until it finishes; then compare with an undisturbed run.

  while it runs      SIGKILL, SIGTERM, SIGUSR1, SIGHUP (also during startup); one of two ranks
                     killed, or stopped for longer than the patience; all ranks stopped for a
                     while; a worker or W&B's process (offline, online) killed; killed between
                     last.pt and best.pt; the disk or the inode table full; the directory
                     renamed; metrics.jsonl or .lock deleted
  while it starts    two starts at once; killed while it draws the images; failing reads of a
                     checkpoint; the clock set back
  between two starts last.pt cut short, with a flipped bit anywhere or outside the tensors, or of
                     another run; no intact checkpoint; metrics.jsonl torn, shorter or deleted;
                     a node's copy of a pack changed; another number of ranks: 1, 2, 1, ...

Several faults hit every run. --seed determines the faults and their steps; the moment within a
step is random. A fault is recovered if the run ended as expected (exit code and message),
resumed from the newest intact checkpoint, and finished. The weights, the optimizer's state and
metrics.jsonl (except times) must be bit-identical to the undisturbed run's. Where the number of
ranks changes, sums are computed in a different order, and the weights must agree within 1e-10.
Faults that need root (a separate file system for the inode table) are otherwise skipped and
listed. The exit status is 1 if any fault was not recovered or any run differs."""

EXAMPLES = """\
examples:
  python scripts/fault_campaign.py                               120 faults, on one rank, on two, and alternating
  python scripts/fault_campaign.py --fork                        the same in a quarter of the CPU time
  python scripts/fault_campaign.py --faults 10 --ranks 1         a short campaign
  python scripts/fault_campaign.py --faults 1000 --fork          every kind many times
  python scripts/fault_campaign.py --seed 1 --work outputs/f1    other faults

If the campaign is interrupted, the same command continues it and compares the finished runs again.
With a larger --faults it injects the additional faults.
Output in --out: table.md, faults.json; in --work: the runs, their output, sessions.jsonl"""


def main() -> int:
    """Run the command and return the exit status: 1 if the campaign failed, else 0."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--faults", type=as_whole(), default=120, help="number of faults (default: %(default)s)")
    parser.add_argument("--seed", type=as_whole(0), default=0, help="determines the faults (default: %(default)s)")
    help_text = "number of ranks; both: 1, 2, and alternating (default)"
    parser.add_argument("--ranks", choices=("1", "2", "both"), default="both", help=help_text)
    parser.add_argument(
        "--work", type=as_folder, default=Path("outputs/faults/work"), metavar="DIR", help="folder for the runs"
    )
    parser.add_argument(
        "--out", type=as_folder, default=Path("outputs/faults"), metavar="DIR", help="folder for the table"
    )
    parser.add_argument("--fork", action="store_true", help="start faster: fork a process that has done the imports")
    return campaign(parser.parse_args())


def campaign(options: argparse.Namespace) -> int:
    # Slow imports come after parsing, so that --help and errors appear at once.
    from ranger21.faults.campaign import Campaign
    from ranger21.faults.table import CampaignResult
    from ranger21.records.sessions import session
    from ranger21.system.terminal import wide_console

    console = wide_console(200)
    options.out.mkdir(parents=True, exist_ok=True)  # fail now, before the long part, if it cannot be created
    say = partial(print, flush=True)
    now = session(0, "cpu", 0)
    commit = (now["git"] or {}).get("commit") or ""
    whole = Campaign(options.work, options.faults, options.seed, options.ranks, options.fork, commit, say)
    whole.go()
    outcome = CampaignResult(whole.legs, whole.judged(), whole.likenesses(), whole.skipped)
    console.print(outcome.terminal())
    for remark in outcome.remarks():
        console.print(f"- {remark}", markup=False, highlight=False)
    for path in outcome.write(options.out, facts(now, whole.records)):
        print(f"wrote {path}")
    return 0 if outcome.good() else 1


def facts(now: dict[str, Any], records: list[SessionRecord]) -> dict[str, Any]:
    """Return facts for the table: command, date, commit, versions and machine."""
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
    with ending_well("continues from there"):
        sys.exit(main())
