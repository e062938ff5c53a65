"""Submit jobs to SLURM: one array with a limit on how many run at once, and a comparison that waits for it."""

from __future__ import annotations

import getpass
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.errors import UserError
from ranger21.grid.jobs import Job
from ranger21.processes import locked
from ranger21.records import write_atomically

TRAIN, COMPARE = Path("slurm/train.sbatch"), Path("slurm/compare.sbatch")
SUBMITTED = "submitted.json"  # {directory: job id}, an array's task as ARRAY_INDEX; before there is an id, FILE_INDEX
COMPARISON, NOTHING = "comparison", "nothing to submit"
TIMEOUT = 120  # seconds for a command of SLURM's


@dataclass(frozen=True)
class Submission:
    """What is to be typed: a list of runs, one a line, and two sbatch commands. ARRAY stands for the first one's id."""

    runs: Path
    array: list[str]
    compare: list[str]


class Slurm:
    """A grid's submissions; what it notes about them lies in `folder`, beside the runs."""

    def __init__(self, folder: Path, options: Sequence[str], compare_options: Sequence[str]) -> None:
        """`options`, such as --partition=gpu, are arguments of sbatch for the runs, others for the comparison."""
        self.folder, self.options, self.compare_options = folder, list(options), list(compare_options)

    def plan(
        self, jobs: Sequence[Job], at_once: int, comparison: Sequence[str], held: Iterable[str] = ()
    ) -> Submission:
        """The commands for these jobs, at most `at_once` at a time, and for compare.py's arguments. Writes nothing.

        The comparison waits also for the jobs `held`, by their ids. By the comments SLURM can be asked for what was
        submitted, should this process die within sbatch.
        """
        folder = self.folder.absolute()
        runs = folder / f"runs-{1 + sum(1 for _ in folder.glob('runs-*.txt'))}.txt"
        array = ["sbatch", "--parsable", f"--array=0-{len(jobs) - 1}%{at_once}", *self.options, f"--comment={runs}"]
        array += [f"--output={folder}/%A_%a.out", f"--export=ALL,RANGER21_RUNS={runs}", str(TRAIN)]
        waits = ":".join(["afterany", *(["ARRAY"] if jobs else []), *sorted(set(held))])
        compare = ["sbatch", "--parsable", f"--dependency={waits}", "--kill-on-invalid-dep=yes", *self.compare_options]
        compare += [f"--comment={folder / COMPARISON}", f"--output={folder}/compare-%j.out", str(COMPARE), *comparison]
        return Submission(runs, array, compare)

    def submit(self, jobs: Sequence[Job], at_once: int, comparison: Sequence[str]) -> str:
        """Submits those of the jobs that SLURM does not hold yet, and the comparison; returns what was done.

        Raises a UserError if sbatch refuses, or if another process is submitting the same grid.
        """
        if not TRAIN.is_file():
            raise UserError(f"{TRAIN} is not here: type this in the project's folder.")
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, f"{self.folder}: another reproduce.py is submitting: wait for it.") as lock:
            queue = self._queue()
            held = self._held(queue)
            jobs = [job for job in jobs if job.directory not in held]
            if not jobs and (not held or COMPARISON in queue):
                return NOTHING
            plan = self.plan(jobs, at_once, comparison, (job.partition("_")[0] for job in held.values()))
            array, what = "", f"the {len(held)} runs that SLURM holds"
            if jobs:
                write_atomically(plan.runs, "".join("\t".join(job.overrides) + "\n" for job in jobs))
                self._note(jobs, plan.runs.name)
                array = _run(plan.array, lock)
                self._note(jobs, array)
                what = f"{len(jobs)} runs as array {array}"
            after = _run([word.replace("ARRAY", array) for word in plan.compare], lock)
        return f"submitted {what}, and the comparison {after} that waits for them"

    def queued(self) -> dict[Path, str]:
        """The ids of the runs that SLURM still holds, by directory: pending, running, or about to be requeued."""
        return self._held(self._queue())

    def _queue(self) -> dict[str, str]:
        """The ids of this user's jobs, each also by what it is of this grid's: FILE_INDEX of a run, or COMPARISON."""
        if not self._noted() or not shutil.which("squeue"):
            return {}
        queue = {}
        told = _run(["squeue", "--noheader", "--array", "--format=%i %k", f"--user={getpass.getuser()}"])
        for number, _, comment in (line.partition(" ") for line in told.splitlines()):
            queue[number] = number
            if Path(comment).parent == self.folder.absolute():
                _, part, index = number.partition("_")
                queue[f"{Path(comment).name}{part}{index}"] = number
        return queue

    def _held(self, queue: Mapping[str, str]) -> dict[Path, str]:
        return {Path(place): queue[job] for place, job in self._noted().items() if job in queue}

    def output(self, job: Job) -> Path | None:
        """Where a job's last try has printed, None if it was never submitted."""
        number = self._noted().get(str(job.directory))
        return self.folder / f"{number}.out" if number else None

    def _note(self, jobs: Sequence[Job], array: str) -> None:
        noted = self._noted() | {str(job.directory): f"{array}_{index}" for index, job in enumerate(jobs)}
        write_atomically(self.folder / SUBMITTED, json.dumps(noted, indent=1))

    def _noted(self) -> dict[str, str]:
        try:
            noted = json.loads((self.folder / SUBMITTED).read_text())
        except (OSError, ValueError):
            return {}
        return noted if isinstance(noted, dict) else {}


def _run(command: Sequence[str], lock: int | None = None) -> str:
    """What a command of SLURM's says. Raises a UserError with its own words if it fails.

    It keeps `lock` until it has ended, whatever becomes of this process.
    """
    try:
        keep = () if lock is None else (lock,)
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, pass_fds=keep)
    except FileNotFoundError as error:
        raise UserError(f"{command[0]} is not here: use --launcher=local, or run this on a login node.") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{command[0]} has not answered for {TIMEOUT} s: type the same again in a while.") from error
    if done.returncode:
        raise UserError(f"{shlex.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip().partition(";")[0]
