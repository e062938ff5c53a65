"""Copy the records of runs for publication, after showing what they reveal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ranger21.grid.jobs import PlannedRun
from ranger21.grid.record import publication, record, records


def publish_runs(jobs: Sequence[PlannedRun], file: Path, yes: bool, tell: Callable[[str], None]) -> bool:
    """Show a summary of the runs' records and copy them to a file. Return False if the user declines.

    Args:
        jobs: the runs; those that have not ended are left out.
        file: the record file, runs.jsonl.gz.
        yes: copy without asking.
        tell: prints a line.

    Raises:
        UserError: see `records` and `record`.
    """
    found = records(jobs)
    tell(f"--record copies {publication(found)}")
    if not yes and input(f"copy them to {file}? [y/N] ").strip().lower() not in ("y", "yes"):
        return False
    tell(f"{record(found, file)} records copied to {file}")
    return True
