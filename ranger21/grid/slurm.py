"""Submit jobs to SLURM: one array with a limit on how many run at once, and a comparison that waits for it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.grid.jobs import Job
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.processes import locked
from ranger21.system.project import WHEEL

TRAIN, COMPARE = Path("slurm/train.sbatch"), Path("slurm/compare.sbatch")
SUBMITTED = "submitted.json"  # {directory: LIST_INDEX}: which line of which list of runs was submitted last for it
NOTHING = "nothing to submit"
TIMEOUT = 120  # seconds for a command of SLURM's


@dataclass(frozen=True)
class Submission:
    """What is to be typed: a list of runs, one a line, and two sbatch commands. ARRAY stands for the first one's id."""

    runs: Path
    jobs: Sequence[Job]
    array: list[str]  # empty: no runs, the comparison alone
    compare: list[str]  # empty: no comparison

    def compare_after(self, array: str) -> list[str]:
        """The comparison's command when the array has its id."""
        dependency = next(word for word in self.compare if word.startswith("--dependency="))
        return [word.replace("ARRAY", array) if word is dependency else word for word in self.compare]


class Slurm:
    """A grid's submissions; what it notes about them lies in `folder`, beside the runs.

    What SLURM holds of it is known from the jobs' own commands: sbatch's answer may be lost.
    """

    def __init__(
        self, folder: Path, options: Sequence[str], compare_options: Sequence[str], command: str = "reproduce.py"
    ) -> None:
        """`options`, such as --partition=gpu, are arguments of sbatch for the runs, others for the comparison.

        `command` is what submits.
        """
        self.command = command
        self.folder, self.options, self.compare_options = folder.resolve(), list(options), list(compare_options)

    def plan(self, jobs: Sequence[Job], at_once: int, comparison: Sequence[str] | None) -> Submission:
        """The commands for those of the jobs that SLURM does not hold yet, at most `at_once` at a time.

        `comparison` are compare.py's arguments, None for none; it waits for those that are held, too. Writes nothing.
        """
        queue = self._queue()
        held = self._held(queue)
        compared = comparison is None or " ".join([str(COMPARE.absolute()), *comparison]) in queue
        jobs = [job for job in jobs if job.directory not in held]
        numbers = [int(name) for path in self.folder.glob("runs-*.txt") if (name := path.stem[5:]).isdecimal()]
        runs = self.folder / f"runs-{1 + max(numbers, default=0)}.txt"  # never one that a queued task may still read
        if not jobs and (not held or compared):
            return Submission(runs, [], [], [])
        array = ["sbatch", "--parsable", f"--array=0-{len(jobs) - 1}%{at_once}", *self.options]
        array += [f"--output={self.folder}/{runs.stem}_%a.out", str(TRAIN), f"@{runs}"]
        if comparison is None:
            return Submission(runs, jobs, array if jobs else [], [])
        others = sorted({job.partition("_")[0] for job in held.values()})
        waits = ":".join(["afterany", *(["ARRAY"] if jobs else []), *others])
        compare = ["sbatch", "--parsable", f"--dependency={waits}", "--kill-on-invalid-dep=yes", *self.compare_options]
        compare += [f"--output={self.folder}/compare-%j.out"]
        return Submission(runs, jobs, array if jobs else [], [*compare, str(COMPARE), *comparison])

    def submit(self, jobs: Sequence[Job], at_once: int, comparison: Sequence[str] | None) -> str:
        """Submits as `plan` says; returns what was done.

        Raises a UserError if sbatch refuses, or if another process is submitting the same grid.
        """
        if not TRAIN.is_file():
            here = "type ranger21 slurm, which copies it here" if WHEEL else "type this in the project's folder"
            raise UserError(f"{TRAIN} is not here: {here}.")
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, f"{self.folder}: another {self.command} is submitting: wait for it.") as lock:
            plan = self.plan(jobs, at_once, comparison)
            if not (plan.jobs or plan.compare):
                return NOTHING
            array, what = "", "no run"
            if plan.jobs:
                write_atomically(plan.runs, "".join("\t".join(job.overrides) + "\n" for job in plan.jobs))
                places = {str(job.directory): f"{plan.runs.stem}_{index}" for index, job in enumerate(plan.jobs)}
                write_atomically(self.folder / SUBMITTED, json.dumps(self._noted() | places, indent=1))
                array = _sbatch(plan.array, lock)
                what = f"{len(plan.jobs)} run{'s' if len(plan.jobs) > 1 else ''} as array {array}"
            if not plan.compare:
                return f"submitted {what}"
            after = _sbatch(plan.compare_after(array), lock)
        return f"submitted {what}, and the comparison {after} that waits for all"

    def queued(self) -> dict[Path, str]:
        """The ids of the runs that SLURM still holds, by directory: pending, running, or about to be requeued."""
        return self._held(self._queue())

    def _queue(self) -> dict[str, str]:
        """The ids of the jobs in SLURM's queue: of this grid's runs by LIST_INDEX, of others by their command."""
        if not self._noted() or not shutil.which("squeue"):
            return {}
        told = _run(["squeue", "--noheader", "--array", "--format=%i %o", f"--user={os.getuid()}"])
        queue = {}
        for number, _, command in (line.partition(" ") for line in told.splitlines()):
            runs, index = Path(command.partition(" @")[2]), number.partition("_")[2]
            queue[f"{runs.stem}_{index}" if runs.parent == self.folder else command] = number
        return queue

    def _held(self, queue: Mapping[str, str]) -> dict[Path, str]:
        return {Path(place): queue[job] for place, job in self._noted().items() if job in queue}

    def output(self, job: Job) -> Path | None:
        """Where a job's last try has printed, None if it was never submitted."""
        name = self._noted().get(str(job.directory))
        return self.folder / f"{name}.out" if name else None

    def _noted(self) -> dict[str, str]:
        try:
            noted = json.loads((self.folder / SUBMITTED).read_text())
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) else {}


def _sbatch(command: Sequence[str], lock: int) -> str:
    """Submits and returns the job's id; sbatch keeps the lock until it has ended, whatever becomes of this process."""
    return _run(command, (lock,)).partition(";")[0]  # what follows is the cluster's name


def _run(command: Sequence[str], keep: Sequence[int] = ()) -> str:
    """What a command of SLURM's says. Raises a UserError with its own words if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, pass_fds=keep)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not here: use --launcher=local, or run this on a login node.") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} has not answered for {TIMEOUT} s: type the same again in a while.") from error
    if done.returncode:
        raise UserError(f"{shlex.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
