#!/usr/bin/env python
"""Check a run on a cluster's login node, and submit it as a SLURM job from any folder."""

from __future__ import annotations

import sys

import _installed

from ranger21.config.ending import ending_well
from ranger21.grid.submit import find_python, parse, submission, submit


def main() -> int:
    """Run the command and return the exit status."""
    options = parse(sys.argv[1:])
    planned = submission(options, find_python())
    for warning in planned.warnings():
        print(f"warning: {warning}", file=sys.stderr)
    print(planned.told(), flush=True)
    if not options.dry_run:
        print(submit(planned))
    return 0


if __name__ == "__main__":
    with ending_well("submits the job"):
        sys.exit(main())
