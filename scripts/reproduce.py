#!/usr/bin/env python
"""Run a whole comparison: every model, optimizer and seed of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ranger21.compose import ending_well
from ranger21.grid.presets import PRESETS


def main() -> int:
    """Run the command; the exit status is 1 if a run failed."""
    parser = argparse.ArgumentParser(prog="python scripts/reproduce.py", description=__doc__)
    parser.add_argument("--preset", required=True, choices=PRESETS, help="which comparison")
    parser.add_argument("--seeds", type=int, help="seeds 0 to N - 1 of every configuration")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="runs side by side (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", help="further arguments for train.py")
    options = parser.parse_args()
    from ranger21.grid.jobs import expand
    from ranger21.grid.local import Local

    jobs = expand(PRESETS[options.preset], options.seeds, options.overrides)
    left = [job for job in jobs if not job.ended]
    print(f"{len(jobs)} runs, {len(jobs) - len(left)} ended, {len(left)} to do", flush=True)
    failed = Local(options.at_once, lambda job, code: print(job.directory, code, flush=True)).run(left)
    return 1 if failed else 0


if __name__ == "__main__":
    with ending_well():
        sys.exit(main())
