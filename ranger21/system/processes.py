"""Worker processes: how many may run, how they end, and how they share work and folders. Imports no torch."""

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
from rich.table import Column

from ranger21.system.errors import UserError
from ranger21.system.locks import take
from ranger21.system.terminal import console, duration, fitting

Item = TypeVar("Item")
Result = TypeVar("Result")
PR_SET_PDEATHSIG = 1  # option of prctl(2): the signal that a process gets when its parent dies
CGROUPS = Path("/sys/fs/cgroup")
BAR = 12  # characters of the bar
SECONDS_BETWEEN_LINES = 10  # seconds between lines of progress if standard output is not a terminal


def granted_cores() -> int:
    """Return how many cores this process may use, by its affinity, its cgroup's quota and SLURM's grant to the task."""
    granted = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    granted.append(cgroup_cores(Path("/proc/self/cgroup"), CGROUPS))
    if os.environ.get("SLURM_CPUS_PER_TASK", "").isdigit():
        granted.append(int(os.environ["SLURM_CPUS_PER_TASK"]))
    return max(1, min(granted))


def cgroup_cores(own: Path, mount: Path) -> int:
    """Return the smallest CPU quota among the process's cgroups (version 2), in whole cores; 2^31 without a quota."""
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
        except (OSError, ValueError):  # no such file, or "max", which means no quota
            continue
    return max(1, math.floor(cores))


def die_with_the_parent() -> None:
    """Have the kernel kill this process when its parent dies (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    threading.Thread(target=_end_with_the_starter, daemon=True).start()


def _end_with_the_starter() -> None:
    """Exit as soon as the process that started the work is gone, however it died.

    PR_SET_PDEATHSIG is of no use here: the parent is the fork server, which lives as long as any of its children.
    """
    starter = multiprocessing.parent_process()
    assert starter is not None
    multiprocessing.connection.wait([starter.sentinel])
    os._exit(1)


def in_parallel(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    what: str,
    amount: Callable[[Item], int] = lambda item: 1,
    unit: Callable[[float], str] = "{:,.0f}".format,
    measured: Callable[[], int] | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Apply `work` to every item in worker processes; yield (item, result) pairs as they complete and show progress.

    `work` and the items must be picklable. An error in `work` stops all workers and is raised here.

    Args:
        processes: number of worker processes; 1 works in this process.
        what: heading of the progress.
        amount: returns the amount of work in an item.
        unit: formats an amount.
        measured: returns the amount of work that is done, for progress within long items; asked every second, if there
            are worker processes.
    """
    with ProgressBar(what, sum(map(amount, items)), unit) as bar:
        if processes == 1:
            for item in items:
                yield item, work(item)
                bar.advance(amount(item))
            return
        context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        pool = ProcessPoolExecutor(processes, context, _begin)
        try:
            todo, waiting = iter(items), dict[Future, Item]()
            while True:
                for item in itertools.islice(todo, 2 * processes - len(waiting)):
                    waiting[pool.submit(work, item)] = item
                if not waiting:
                    break
                for future in wait(waiting, measured and 1, FIRST_COMPLETED).done:
                    done = waiting.pop(future)
                    yield done, future.result()
                    bar.advance(0 if measured else amount(done))
                if measured:
                    bar.advance(measured() - bar.done)
        except (KeyboardInterrupt, GeneratorExit):  # nobody waits for the remaining results
            for process in multiprocessing.active_children():
                process.kill()
            raise
        except BrokenProcessPool as error:
            text = "A worker process died, often for lack of memory. Run the same command again with fewer --processes."
            raise UserError(f"{what}: {text}") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def add_processes_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --processes, the number of worker processes."""
    cores = granted_cores()
    help_text = "worker processes (default: available cores, here %(default)s)"
    parser.add_argument("--processes", type=int, default=cores, help=help_text)


def require_processes(processes: int) -> None:
    if not 1 <= processes <= 1024:
        raise UserError(f"--processes={processes} is invalid: it must be between 1 and 1024.")


@contextlib.contextmanager
def locked(folder: Path, sentence: str) -> Iterator[int]:
    """Lock a folder and yield its descriptor; raise a UserError with `sentence` if another process has locked it.

    Over NFS, which locks only files open for writing, this leaves a file `.lock` behind. Where the file system has no
    locks, nothing is locked. A child process that inherits the descriptor keeps the folder locked as long as it lives.
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
def temporary_folder(place: Path, contents: set[str]) -> Iterator[Path]:
    """Yield a temporary folder beside `place`, to build files that are then renamed to `place`; remove it at the end.

    Temporary folders that killed processes left are removed first: those with a matching name that contain nothing
    but `contents` and are not locked by a living process.
    """
    beside, own = os.open(place.parent, os.O_RDONLY), -1
    try:
        for _ in range(20):  # the parent's lock keeps other processes from removing the new folder before it is locked
            with contextlib.suppress(OSError):
                if take(beside):
                    sweep_temporary_folders(place, contents)
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


def sweep_temporary_folders(place: Path, contents: set[str]) -> None:
    """Remove the temporary folders beside `place` that no living process has locked."""
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


class ProgressBar:
    """Progress and remaining time of some work: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, what: str, total: int, unit: Callable[[float], str]) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done, self._begin, self._told = 0, time.monotonic(), time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> "ProgressBar":
        if console.is_terminal:
            text = TextColumn("{task.description}", table_column=Column(no_wrap=True), markup=False)
            self._bar = Progress(BarColumn(BAR), text, console=console)
            self._task = self._bar.add_task(self.shown(), total=self.total)
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
            self._bar.update(self._task, completed=self.done, description=self.shown())
        elif time.monotonic() - self._told > SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            console.print(self.sentence())

    def shown(self) -> str:
        """Return what stands beside the bar: as much as fits into the line."""
        width = console.width - BAR - 1
        return fitting(self.parts(), width)[:width]

    def sentence(self) -> str:
        return ", ".join(self.parts())

    def parts(self) -> list[str]:
        """Return the amount, the remaining time and the rate."""
        spent = time.monotonic() - self._begin
        left = duration(spent / self.done * (self.total - self.done)) if self.done else "?"
        rate = self.unit(self.done / spent) if spent else "?"
        return [f"{self.what}: {self.unit(self.done)} of {self.unit(self.total)}", f"left {left}", f"{rate}/s"]
