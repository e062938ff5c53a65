"""Submit jobs to SLURM: one array with a limit on how many run at once, and a comparison that waits for it."""

from __future__ import annotations

import getpass
import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.errors import UserError
from ranger21.grid.jobs import Job
from ranger21.records import write_atomically

TRAIN = "slurm/train.sbatch"
COMPARE = "slurm/compare.sbatch"
SUBMITTED = "submitted.json"  # of the array tasks: {directory: job id}


@dataclass(frozen=True)
class Submission:
    """What is to be typed: the list of runs, one a line, and the two sbatch commands."""

    runs: Path
    array: list[str]
    compare: list[str]  # its dependency has the array's id in place of `ARRAY`


class Slurm:
    """A grid's submissions; what it notes about them lies in `folder`, beside the runs."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        """`options` are further arguments of sbatch, such as --partition=gpu."""
        self.folder, self.options = folder, list(options)

    def plan(self, jobs: Sequence[Job], at_once: int, comparison: Sequence[str]) -> Submission:
        """The commands for these jobs, at most `at_once` at a time, and for compare.py's arguments. Writes nothing."""
        runs = self.folder / f"runs-{1 + sum(1 for _ in self.folder.glob('runs-*.txt'))}.txt"
        array = ["sbatch", "--parsable", f"--array=0-{len(jobs) - 1}%{at_once}", *self.options]
        array += [f"--export=ALL,RANGER21_RUNS={runs.absolute()}", TRAIN]
        compare = ["sbatch", "--parsable", "--dependency=afterany:ARRAY", "--kill-on-invalid-dep=yes", *self.options]
        return Submission(runs, array, [*compare, COMPARE, *comparison])

    def submit(self, jobs: Sequence[Job], at_once: int, comparison: Sequence[str]) -> tuple[str, str]:
        """Submits; returns the ids of the array and of the comparison. Raises a UserError if sbatch refuses."""
        plan = self.plan(jobs, at_once, comparison)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(plan.runs, "".join("\t".join(job.overrides) + "\n" for job in jobs))
        array = _run(plan.array)
        noted = self._noted() | {str(job.directory): f"{array}_{index}" for index, job in enumerate(jobs)}
        write_atomically(self.folder / SUBMITTED, json.dumps(noted, indent=1))
        return array, _run([word.replace("ARRAY", array) for word in plan.compare])

    def queued(self) -> frozenset[Path]:
        """The directories of the runs that SLURM still holds: pending, running, or about to be requeued."""
        noted = self._noted()
        if not noted:
            return frozenset()
        held = _run(["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"]).split()
        return frozenset(Path(place) for place, job in noted.items() if job in held)

    def _noted(self) -> dict[str, str]:
        try:
            noted = json.loads((self.folder / SUBMITTED).read_text())
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) else {}


def typed(command: Sequence[str]) -> str:
    """A command as one types it."""
    return shlex.join(command)


def _run(command: Sequence[str]) -> str:
    """What a command of SLURM's says. Raises a UserError with its own words if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not here: use --launcher=local, or run this on a login node.") from error
    if done.returncode:
        raise UserError(f"{typed(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().partition(";")[0]
