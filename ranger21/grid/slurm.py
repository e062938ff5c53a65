"""SLURM launcher: one job array with a limit on concurrent runs, and a comparison that waits for it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.grid.jobs import PlannedRun
from ranger21.grid.sbatch import NoAnswer, run_slurm, with_defaults
from ranger21.grid.submit import find_python
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.system.processes import locked
from ranger21.system.project import SLURM

TRAIN, COMPARE = SLURM / "train.sbatch", SLURM / "compare.sbatch"
SUBMITTED = "submitted.json"  # {directory: LIST_INDEX}: the list of runs and the line in it submitted last for a run
NOTHING = "nothing to submit"
NOT_QUEUED = "nothing to cancel: SLURM's queue has no job of these runs"
RUNNING = ("RUNNING", "CONFIGURING", "COMPLETING")


@dataclass(frozen=True)
class QueuedJob:
    """A job in SLURM's queue: its number (JOB or ARRAY_TASK), and whether it runs or waits."""

    number: str
    running: bool


@dataclass(frozen=True)
class Submission:
    """A file that lists runs, one per line, and two sbatch commands; the second has ARRAY for the id of the first."""

    runs: Path
    jobs: Sequence[PlannedRun]
    array: list[str]  # empty: no runs, the comparison alone
    compare: list[str]  # empty: no comparison

    def compare_after(self, array: str) -> list[str]:
        """Return the command of the comparison with the array's id."""
        dependency = next(word for word in self.compare if word.startswith("--dependency="))
        return [word.replace("ARRAY", array) if word is dependency else word for word in self.compare]


class Slurm:
    """The submissions of a grid, recorded in `folder`.

    The runs in SLURM's queue are recognized by the commands of its jobs, because the answer of sbatch may be lost.

    Attributes:
        doubt: why it is unknown which runs are in SLURM's queue; empty if that is known.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str],
        compare_options: Sequence[str],
        command: str = "reproduce.py",
        *,
        looks: bool = False,
    ) -> None:
        """Prepare the submissions.

        Args:
            folder: the folder of the lists of runs and SLURM's output.
            options: arguments of sbatch for the runs, such as --partition=gpu.
            compare_options: arguments of sbatch for the comparison.
            command: name of the submitting command, for messages.
            looks: whether the command only shows something: if SLURM does not answer, `doubt` says so, and no run is in
                the queue, instead of an error.
        """
        self.command, self.looks, self.doubt = command, looks, ""
        self.folder, self.options, self.compare_options = folder.resolve(), list(options), list(compare_options)

    def plan(self, jobs: Sequence[PlannedRun], at_once: int, comparison: Sequence[str] | None) -> Submission:
        """Return the commands that submit the runs that are not in SLURM's queue, without writing anything.

        Args:
            jobs: the runs; a run that occurs twice is submitted once.
            at_once: how many may run at a time; if runs are in the queue already, these runs start after them.
            comparison: arguments of compare.py, which waits for runs already in the queue, too; None: no comparison.
        """
        queue = self._queue()
        held = self._held(queue)
        compared = comparison is None or " ".join([str(COMPARE), *comparison]) in queue
        jobs = list({job.directory: job for job in jobs if job.directory not in held}.values())
        numbers = [int(name) for path in self.folder.glob("runs-*.txt") if (name := path.stem[5:]).isdecimal()]
        runs = (
            self.folder / f"runs-{1 + max(numbers, default=0)}.txt"
        )  # a new file, because queued tasks may still read the others
        if not jobs and (not held or compared):
            return Submission(runs, [], [], [])
        others = sorted({job.number.partition("_")[0] for job in held.values()})
        array = ["sbatch", "--parsable", f"--array=0-{len(jobs) - 1}%{at_once}"]
        array += [f"--dependency=afterany:{':'.join(others)}"] if others else []
        array += with_defaults(self.options)
        array += [f"--output={self.folder}/{runs.stem}_%a.out", str(TRAIN), f"@{runs}"]
        if comparison is None:
            return Submission(runs, jobs, array if jobs else [], [])
        waits = ":".join(["afterany", *(["ARRAY"] if jobs else []), *others])
        compare = ["sbatch", "--parsable", f"--dependency={waits}", "--kill-on-invalid-dep=yes", *self.compare_options]
        compare += [f"--output={self.folder}/compare-%j.out"]
        return Submission(runs, jobs, array if jobs else [], [*compare, str(COMPARE), *comparison])

    def submit(self, jobs: Sequence[PlannedRun], at_once: int, comparison: Sequence[str] | None) -> str:
        """Submit the runs with the commands of `plan`; return a sentence that says what was submitted.

        Raises a UserError if sbatch or the Python of the jobs is missing or fails, or if another process is submitting
        the same grid.
        """
        if not shutil.which("sbatch"):
            raise UserError("sbatch was not found: run this command on a login node, or use --launcher=local.")
        env = {"RANGER21_HOME": str(SLURM.parent), "PYTHON": find_python()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, f"Another {self.command} is submitting {self.folder}: wait for it.") as lock:
            plan = self.plan(jobs, at_once, comparison)
            if not (plan.jobs or plan.compare):
                return NOTHING
            array, what = "", "no run"
            if plan.jobs:
                write_atomically(plan.runs, "".join("\t".join(job.overrides) + "\n" for job in plan.jobs))
                places = {str(job.directory): f"{plan.runs.stem}_{index}" for index, job in enumerate(plan.jobs)}
                before = self._noted()
                self._note(before | places)
                try:
                    array = _sbatch(plan.array, lock, env)
                except UserError as error:
                    if not (isinstance(error, NoAnswer) and error.unsure):
                        self._note(before)
                        plan.runs.unlink()
                    raise
                what = f"{len(plan.jobs)} run{'s' if len(plan.jobs) > 1 else ''} as array {array}"
            if not plan.compare:
                return f"submitted {what}"
            try:
                after = _sbatch(plan.compare_after(array), lock, env)
            except UserError as error:
                raise UserError(
                    f"submitted {what}, but not the comparison, which the same command submits: {error}"
                ) from error
        return f"submitted {what}, and the comparison {after} that waits for all"

    def cancel(self, jobs: Sequence[PlannedRun], comparison: Sequence[str], *, dry_run: bool) -> str:
        """Cancel the SLURM jobs of these runs and of their comparison; return a sentence that names them.

        Running runs save a checkpoint. Other jobs are never touched: a job is known by the list of runs, in the
        folder of these submissions, that its command names.

        Args:
            jobs: the runs.
            comparison: arguments of compare.py.
            dry_run: only return the command.

        Raises a UserError if squeue or scancel is missing or fails, or if another process is submitting the same grid.
        """
        if not self._noted():
            return NOT_QUEUED
        if not shutil.which("scancel"):
            raise UserError("scancel was not found: run this command on a login node.")
        with locked(self.folder, f"Another {self.command} is submitting {self.folder}: wait for it."):
            queue = self._jobs()
            held = self._held(dict(queue))
            found = [held[job.directory] for job in jobs if job.directory in held]
            comparing = " ".join([str(COMPARE), *comparison])
            after = [job for command, job in queue if command == comparing]
            command = ["scancel", *(job.number for job in after + found)]
            if len(command) == 1:
                return NOT_QUEUED
            if dry_run:
                return shlex.join(command)
            run_slurm(command)
        running = sum(job.running for job in found)
        runs = f"{len(found)} run{'s' if len(found) != 1 else ''} ({running} running, {len(found) - running} queued)"
        also = f" and the comparison {', '.join(job.number for job in after)}" if after else ""
        arrays = ", ".join(sorted({job.number.partition("_")[0] for job in found}))
        of = f" of array {arrays}" if arrays else ""
        return f"cancelled {runs}{of}{also}; the same command without --cancel continues with the remaining runs"

    def queued(self) -> dict[Path, QueuedJob]:
        """Return the runs in SLURM's queue (pending, running, or being requeued), by directory."""
        return self._held(self._queue())

    def _queue(self) -> dict[str, QueuedJob]:
        return dict(self._jobs())

    def _jobs(self) -> list[tuple[str, QueuedJob]]:
        """Return the jobs in SLURM's queue, by LIST_INDEX for this grid's runs, by command for others."""
        self.doubt = ""
        if not self._noted():
            return []
        try:
            told = run_slurm(["squeue", "--noheader", "--array", "--format=%i %T %o", f"--user={os.getuid()}"])
        except UserError as error:
            if not all((Path(place) / "result.json").exists() for place in self._noted()):
                told = f"{error} It is unknown whether the unfinished runs in {self._noted_file} are in its queue"
                if shutil.which("squeue") and not self.looks:
                    raise UserError(f"{told}. If none is, remove that file.") from error
                self.doubt = f"{told}."
            return []
        jobs = []
        for number, state, command in ([*line.split(" ", 2), ""][:3] for line in told.splitlines()):
            runs, index = Path(command.partition(" @")[2]), number.partition("_")[2]
            name = f"{runs.stem}_{index}" if runs.parent == self.folder else command
            jobs.append((name, QueuedJob(number, state in RUNNING)))
        return jobs

    def _held(self, queue: Mapping[str, QueuedJob]) -> dict[Path, QueuedJob]:
        return {Path(place): queue[job] for place, job in self._noted().items() if job in queue}

    def output(self, job: PlannedRun) -> Path | None:
        """Return the output file of a run's last submission; None if it was never submitted."""
        name = self._noted().get(str(job.directory))
        return self.folder / f"{name}.out" if name else None

    def _noted(self) -> dict[str, str]:
        try:
            noted = json.loads(self._noted_file.read_text())
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) else {}

    def _note(self, noted: Mapping[str, str]) -> None:
        if noted:
            write_atomically(self._noted_file, json.dumps(noted, indent=1))
        else:
            self._noted_file.unlink()

    @property
    def _noted_file(self) -> Path:
        return self.folder / SUBMITTED


def _sbatch(command: Sequence[str], lock: int, env: Mapping[str, str]) -> str:
    """Run sbatch and return the job's id; sbatch inherits the lock and keeps it even if this process is killed."""
    return run_slurm(command, (lock,), os.environ | env).partition(";")[0]  # the name of the cluster may follow the id
