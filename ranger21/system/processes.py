"""Other processes of this machine: how many may run, how they end, and work shared among them. Imports no torch."""

import argparse
import contextlib
import ctypes
import itertools
import math
import multiprocessing
import multiprocessing.connection
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from rich.progress import BarColumn, Progress, TextColumn

from ranger21.system.errors import UserError
from ranger21.system.locks import take
from ranger21.system.terminal import console, duration

Job = TypeVar("Job")
Result = TypeVar("Result")
PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when its parent dies
CGROUPS = Path("/sys/fs/cgroup")
SECONDS_BETWEEN_LINES = 10  # of progress where there is no terminal


def granted_cores() -> int:
    """The cores that this process may use: by its affinity, its control group's quota, SLURM's grant to the task."""
    granted = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    granted.append(cgroup_cores(Path("/proc/self/cgroup"), CGROUPS))
    if os.environ.get("SLURM_CPUS_PER_TASK", "").isdigit():
        granted.append(int(os.environ["SLURM_CPUS_PER_TASK"]))
    return max(1, min(granted))


def cgroup_cores(own: Path, mount: Path) -> int:
    """The smallest CPU quota among the control groups (version 2) of the process, in whole cores; without one, 2^31."""
    try:
        group = next(line[3:].strip() for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return 2**31
    cores, place = float(2**31), mount / group.lstrip("/")
    for folder in (place, *place.parents):
        if folder != mount and mount not in folder.parents:
            break
        try:
            quota, period = (folder / "cpu.max").read_text().split()
            cores = min(cores, int(quota) / int(period))
        except (OSError, ValueError):  # no such file, or "max": no quota
            continue
    return max(1, math.floor(cores))


def die_with_the_parent() -> None:
    """From now on a SIGKILL of the parent ends this process too (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its processes
    threading.Thread(target=_end_with_the_starter, daemon=True).start()


def _end_with_the_starter() -> None:
    """End this process as soon as the one that started the work is gone, however it died.

    Not by PR_SET_PDEATHSIG: the parent is the fork server, which lives as long as one of its processes does.
    """
    starter = multiprocessing.parent_process()
    assert starter is not None
    multiprocessing.connection.wait([starter.sentinel])
    os._exit(1)


def in_parallel(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    processes: int,
    what: str,
    amount: Callable[[Job], int] = lambda job: 1,
    unit: Callable[[float], str] = "{:,.0f}".format,
) -> Iterator[tuple[Job, Result]]:
    """Every job with what `work` makes of it, as they are done, with progress and the time left shown.

    `work` and the jobs must be picklable. An error in `work` ends it all and is raised here.

    Args:
        processes: how many work at a time; 1: this one alone.
        what: the progress is headed by.
        amount: of work in a job, in the unit of the progress.
        unit: how an amount is shown.
    """
    with Bar(what, sum(map(amount, jobs)), unit) as bar:
        if processes == 1:
            for job in jobs:
                yield job, work(job)
                bar.advance(amount(job))
            return
        context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        pool = ProcessPoolExecutor(processes, context, _begin)
        try:
            todo, waiting = iter(jobs), dict[Future, Job]()
            while True:
                for job in itertools.islice(todo, 2 * processes - len(waiting)):
                    waiting[pool.submit(work, job)] = job
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    done = waiting.pop(future)
                    yield done, future.result()
                    bar.advance(amount(done))
        except (KeyboardInterrupt, GeneratorExit):  # nobody waits for the jobs under way
            for process in multiprocessing.active_children():
                process.kill()
            raise
        except BrokenProcessPool as error:
            text = "A process died, often for lack of memory: run the same command again, with fewer --processes."
            raise UserError(f"{what}: {text}") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """--processes, how many work at a time."""
    cores = granted_cores()
    parser.add_argument("--processes", type=int, default=cores, help="at a time (default: the cores, %(default)s)")


def require_processes(processes: int) -> None:
    if not 1 <= processes <= 1024:
        raise UserError(f"--processes={processes} is not possible: it must be at least 1, and 1024 at most.")


@contextlib.contextmanager
def locked(folder: Path, sentence: str) -> Iterator[int]:
    """Keep a second process away from a folder: there, `sentence` is raised as a UserError.

    Leaves no file behind, but over NFS, which locks only what is open for writing: `.lock`. Where there are no locks at
    all, nobody is kept away. A child that is given the descriptor (the value of the context) keeps the folder locked
    as long as it lives.
    """
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            free = take(place)
        except OSError:
            os.close(place)
            place, free = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT), True
            with contextlib.suppress(OSError):
                free = take(place)
        if not free:
            raise UserError(sentence)
        yield place
    finally:
        os.close(place)


@contextlib.contextmanager
def workshop(place: Path, contents: set[str]) -> Iterator[Path]:
    """A folder beside `place`, for what is made and then renamed to it; it is removed at the end.

    Those that killed processes left are removed first: what has such a name and nothing but `contents`, and is locked
    by nobody. A living process has its own locked.
    """
    beside, own = os.open(place.parent, os.O_RDONLY), -1
    try:
        for _ in range(20):  # so that nobody sweeps what is not locked yet
            with contextlib.suppress(OSError):
                if take(beside):
                    sweep_workshops(place, contents)
                    break
            time.sleep(0.05)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as folder:
            own = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(OSError):
                take(own)
            os.close(beside)
            beside = -1
            yield Path(folder)
    finally:
        for descriptor in (beside, own):
            if descriptor >= 0:
                os.close(descriptor)


def sweep_workshops(place: Path, contents: set[str]) -> None:
    """Remove the workshops beside `place` that no living process has locked."""
    for left in place.parent.glob(f".{place.name}-*"):
        ours = re.fullmatch("[a-z0-9_]{8}", left.name.removeprefix(f".{place.name}-")) and left.is_dir()
        if not ours or not {path.name for path in left.iterdir()} <= contents:
            continue
        descriptor = os.open(left, os.O_RDONLY)
        try:
            if take(descriptor):
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(descriptor)


class Bar:
    """How much is done and how long the rest will take: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, what: str, total: int, unit: Callable[[float], str]) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done, self._begin, self._told = 0, time.monotonic(), time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> "Bar":
        if console.is_terminal:
            self._bar = Progress(BarColumn(24), TextColumn("{task.description}"), console=console)
            self._task = self._bar.add_task(self.sentence(), total=self.total)
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if error[0] is None:
            console.print(f"{self.what}: {self.unit(self.done)} in {duration(time.monotonic() - self._begin)}")

    def advance(self, amount: int) -> None:
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, description=self.sentence())
        elif time.monotonic() - self._told > SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            console.print(self.sentence())

    def sentence(self) -> str:
        spent = time.monotonic() - self._begin
        left = duration(spent / self.done * (self.total - self.done)) if self.done else "?"
        rate = self.unit(self.done / spent) if spent else "?"
        return f"{self.what}: {self.unit(self.done)} of {self.unit(self.total)}, {rate}/s, left {left}"
