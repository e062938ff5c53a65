#!/usr/bin/env python
"""Check a new GPU node or cluster account in about ten minutes, before you spend a thousand GPU hours on it."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import _installed

from ranger21.config.arguments import Parser, as_file, as_seconds
from ranger21.config.ending import ending_well

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ranger21.config import Config
    from ranger21.machine.check import CheckRow
    from ranger21.machine.listing import Check

HELP = """\
Check a new GPU node or cluster account in about ten minutes, before you spend a thousand
GPU hours on it: what it has, whether it computes correctly, and how fast it is.

The command takes train.py's overrides and checks the training that they configure:

  inventory         Python, torch, driver, CUDA, SLURM, the GPU and its memory
  correctness       bf16, fp16 and TF32; sums over the GPUs (NCCL; gloo on a CPU); the golden
                    trajectories; Ranger21 with foreach, one tensor at a time and fused, against
                    its reference; the augmentation against the CPU's; a sample of the images;
                    the pack's checksums; the configured training by train.py, killed (SIGKILL)
                    and resumed, and the difference of the weights
  speed             the optimizer's step compared with torch's fused AdamW; images/s, the
                    fraction of the time spent waiting for data, peak memory; the loader with
                    1, 4, 8, ... workers; the largest batch that fits; writing a checkpoint;
                    W&B's server

A table shows the result of each check: ok, warning (training works, but not as well as it could)
or failed, and what to do. The exit status is 1 if a check failed. A check that hangs is stopped
after --limit seconds; a check that crashes gets a row in the table, too.

Nothing is left behind except machine.json and train.py's index of the images in the user's cache.
reproduce.py --dry-run --machine machine.json uses the measured speed to estimate hours."""

EXAMPLES = """\
examples:
  python scripts/check_machine.py data.root=/data/imagenet              the paper's training, about ten minutes
  python scripts/check_machine.py model=nf_resnet50 data.pack=/data/packed --out nf.json
  python scripts/check_machine.py --quick experiment=demo               one minute, without any data
  srun -N 2 --ntasks-per-node=4 --gpus-per-node=4 python scripts/check_machine.py data.pack=/data/packed
                                                                        includes sums over both nodes
then: python scripts/reproduce.py --preset paper --dry-run --machine machine.json --machine nf.json"""

QUICK = 60.0  # seconds


def main() -> int:
    """Run the command and return the exit status: 1 if a check failed, else 0."""
    parser = Parser(
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="group=choice or key=value, as for train.py")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"fewer steps and images, no pack checksums, no largest batch; skip the rest after {QUICK:g} seconds",
    )
    parser.add_argument(
        "--limit", type=as_seconds, default=600.0, metavar="SECONDS", help="time limit of each check (default: 600)"
    )
    parser.add_argument(
        "--out",
        type=as_file(".json"),
        default=Path("machine.json"),
        metavar="FILE",
        help="results as JSON; never overwrites another kind of file (default: %(default)s)",
    )
    options = parser.parse_intermixed_args()
    # Slow imports come after parsing, so that --help and errors appear at once.
    from ranger21.config.compose import compose_config
    from ranger21.machine.listing import CHECKS, TOGETHER
    from ranger21.machine.record import require_place
    from ranger21.system.ranks import environment
    from ranger21.system.stopping import stop_signals

    config = compose_config(options.overrides)
    for number in stop_signals():
        signal.signal(number, signal.default_int_handler)  # so that temporary files are removed
    if (environment() or {"rank": 0})["rank"]:
        look(options, config, [check for check in CHECKS if check.name == TOGETHER], lambda name: None)
        return 0  # rank 0 reports
    require_place(options.out)
    return tell(options, config, [check for check in CHECKS if check.quick or not options.quick])


def look(
    options: argparse.Namespace, config: Config, checks: Sequence[Check], begins: Callable[[str], None]
) -> list[CheckRow]:
    """Run the checks in temporary folders and return the rows."""
    from ranger21.machine.places import working
    from ranger21.machine.running import CheckRequest, rows

    with (
        tempfile.TemporaryDirectory(prefix="cm-", ignore_cleanup_errors=True) as temporary,
        working(config, Path(temporary)) as work,
    ):
        total = QUICK if options.quick else None
        order = CheckRequest(tuple(options.overrides), options.quick, options.limit, total, work, Path(temporary))
        return list(rows(order, checks, begins))


def tell(options: argparse.Namespace, config: Config, checks: Sequence[Check]) -> int:
    """Run the checks, print the table and write machine.json; return the exit status."""
    from ranger21.machine.check import FAILED
    from ranger21.machine.record import write
    from ranger21.machine.table import summary, table
    from ranger21.system.terminal import wide_console

    begun, progress = time.monotonic(), wide_console(80, stderr=True)
    names = [check.name for check in checks]
    with progress.status("") as status:

        def begins(name: str) -> None:
            told = f"{names.index(name) + 1}/{len(names)}  {time.monotonic() - begun:.0f} s  {name}"
            status.update(told)
            if not progress.is_terminal:
                progress.print(told, markup=False, soft_wrap=True)

        found = look(options, config, checks, begins)
    console = wide_console(160)
    console.print(table(found))
    write(options.out, config, found, options.quick, len(found) == len(checks))
    taken = time.monotonic() - begun
    left = f", {len(checks) - len(found)} not done" if len(found) < len(checks) else ""
    print(f"{summary(found)}{left}, in {taken:.0f} s; wrote {options.out}")
    return 1 if any(row.found.state == FAILED for row in found) else 0


if __name__ == "__main__":
    with ending_well("starts over"):
        sys.exit(main())
