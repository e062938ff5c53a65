"""Data loading in worker processes, with recovery from workers that die or hang."""

import contextlib
import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from ranger21.data.images import ImageBatch, ImageDataset
from ranger21.data.order import Key
from ranger21.data.sockets import prepare_sockets
from ranger21.system.errors import UserError
from ranger21.system.processes import die_with_the_parent, granted_cores

log = logging.getLogger("ranger21")
RESTARTS = 2  # attempts without a batch in between


def available_workers(ranks_here: int, device: str) -> int:
    """Return the default number of workers per rank: one less than its CPU cores, but from 1 to 8.

    Return 0 if training runs on the CPU, because it needs all cores itself.

    Args:
        ranks_here: Number of ranks on this node.
        device: Device type of the training.
    """
    if device == "cpu":
        return 0
    cores, step = granted_cores(), os.environ.get("SLURM_CPUS_ON_NODE", "")
    of_all = min(os.cpu_count() or 1, int(step) if step.isdigit() else 2**31)
    if "LOCAL_WORLD_SIZE" in os.environ or cores >= of_all:  # the cores are shared by all ranks
        cores //= ranks_here
    return max(1, min(8, cores - 1))


class Loader:
    """Load batches of a dataset in worker processes that live as long as this object.

    If a worker dies or hangs, this is logged (with the stacks of hanging workers), and all workers are restarted at
    the next batch. Batches do not depend on restarts.

    Args:
        dataset: The dataset, which returns whole batches.
        batches: Keys of each batch.
        workers: Number of worker processes; 0 loads in this process.
        pin_memory: Whether to copy batches to pinned memory.
        timeout: Seconds without a batch after which workers count as hanging.

    Attributes:
        unreadable: Messages about unreadable images that were replaced by others, for all batches so far.
    """

    def __init__(
        self, dataset: ImageDataset, batches: Sampler[list[Key]], workers: int, pin_memory: bool, timeout: float = 300.0
    ) -> None:
        self.dataset, self.batches = dataset, batches
        self.workers, self.pin_memory, self.timeout = workers, pin_memory, timeout
        self.unreadable: list[str] = []
        if workers:
            prepare_sockets()
        self._workers = Workers() if workers else None
        self._whole: DataLoader | None = None  # a loader that starts at the first batch

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __iter__(self) -> Generator[ImageBatch | None, None, None]:
        done, failures = 0, 0
        self._whole = loader = self._whole or self._make(0)
        while True:
            try:
                with Watch(self.timeout, self._workers) as watch:
                    for batch in watch.over(loader):
                        if isinstance(batch, UserError):
                            break
                        done, failures = done + 1, 0
                        self.unreadable += batch.unreadable if batch else []
                        yield batch
                        del batch  # so that the next batch can reuse its memory while it is in the cache
                    else:
                        return
                try:
                    raise batch
                finally:
                    del batch  # avoid a reference cycle of the error and this frame, which holds the workers
            except (RuntimeError, OSError, EOFError) as error:
                if not self.workers:
                    raise
                failures += 1
                reason = watch.reason or death(error)
                if failures > RESTARTS:
                    raise UserError(f"{reason}, {failures} times in a row. Try fewer data.workers.") from error
            log.warning("%s. The workers are restarted.", reason)
            self._whole, loader = None, self._make(done)

    def _make(self, first: int) -> DataLoader:
        """Return a torch DataLoader of the batches from number `first` on."""
        forks = self.workers > 0 and sys.platform == "linux"  # makes workers direct children of the run
        return DataLoader(
            self.dataset,
            batch_sampler=Rest(self.batches, first),
            num_workers=self.workers,
            collate_fn=identity_collate,
            pin_memory=self.pin_memory,
            worker_init_fn=partial(live_with_the_run, self._workers.stacks) if self._workers else None,
            multiprocessing_context="fork" if forks else None,
            persistent_workers=self.workers > 0,
            generator=torch.Generator(),
        )


class Rest(Sampler[list[Key]]):
    """The batches from number `first` on."""

    def __init__(self, batches: Sampler[list[Key]], first: int) -> None:
        self.batches, self.first = batches, first

    def __len__(self) -> int:
        return len(self.batches) - self.first  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Key]]:
        batches = iter(self.batches)
        for _ in range(self.first):
            next(batches)
        return batches


def identity_collate(batch: Any) -> Any:
    """Return the batch unchanged, because the dataset returns whole batches."""
    return batch


def death(error: Exception) -> str:
    """Return a description of a dead worker from torch's error; raise any other error again."""
    told = any(words in str(error) for words in ("is killed by signal", "exited unexpectedly"))
    # A worker that dies after announcing a batch, but before the batch is fetched, breaks the connection.
    broken = not isinstance(error, RuntimeError) and "in DataLoader worker process" not in str(error)
    if not told and not broken:
        raise error
    text = (str(error) or "connection lost").splitlines()[0].rstrip(".")
    return f"A worker died, which is often due to lack of memory ({text})"


def live_with_the_run(stacks: Connection, worker: int) -> None:
    """Set up a worker so that it lives exactly as long as its run.

    Signals meant for the run (Ctrl-C, a scheduler's warning, a closed terminal) must not end the worker before the
    checkpoint is written, except SIGTERM sent by the run itself. If the run is killed, the worker must exit too;
    torch's workers can stay blocked in a queue that nobody reads. On SIGUSR2, the worker writes its stack to `stacks`.
    """
    for name in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR2, stacks)
    die_with_the_parent()
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_the_run, daemon=True).start()


def _obey_the_run() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class Workers:
    """The worker processes of a loader by process ID, and a pipe for their stacks."""

    def __init__(self) -> None:
        self.pids: set[int] = set()
        self._read, self.stacks = multiprocessing.Pipe(duplex=False)

    def alive(self) -> list[int]:
        """Return the IDs of the living workers. (The system may have reused the ID of a dead one.)"""
        return sorted(self.pids & {process.pid for process in multiprocessing.active_children()})

    def stack(self, pid: int) -> str:
        """Return the stack of a worker, or an empty string if it does not answer within half a second."""
        self._take(0)  # discard output of workers killed since
        _send(signal.SIGUSR2, pid)
        return self._take(0.5).decode(errors="replace").strip()

    def _take(self, patience: float) -> bytes:
        text = b""
        while self._read.poll(patience):
            text += os.read(self._read.fileno(), 65536)
        return text


class Watch:
    """Kill workers that deliver no batch for `timeout` seconds, after logging their stacks.

    torch then detects dead workers, whereas it would wait for hanging ones forever.

    Args:
        timeout: Seconds to wait for a batch.
        workers: The worker processes; None if there are none.

    Attributes:
        reason: A description of the timeout, or an empty string.
    """

    def __init__(self, timeout: float, workers: Workers | None) -> None:
        self.timeout, self.workers, self.reason = timeout, workers, ""
        self._waiting_since: float | None = None
        self._over = threading.Event()

    def __enter__(self) -> "Watch":
        if self.workers:
            threading.Thread(target=self._look, args=(self.workers,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def over(self, loader: DataLoader) -> Iterator[ImageBatch | UserError | None]:
        """Yield the batches of a loader."""
        # Restore the SIGCHLD handler: torch's would raise in the main thread at any line when a worker dies.
        here = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGCHLD)
        self._waiting_since = time.monotonic()  # starting a new epoch in the workers can hang as well
        before = {process.pid for process in multiprocessing.active_children()}
        batches = iter(loader)
        if self.workers:
            new = {process.pid for process in multiprocessing.active_children()} - before
            self.workers.pids |= new  # type: ignore[arg-type]
        if here and handler is not None:
            signal.signal(signal.SIGCHLD, handler)
        while True:
            self._waiting_since = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self._waiting_since = None
            yield batch
            del batch

    def _look(self, workers: Workers) -> None:
        while not self._over.wait(min(1.0, self.timeout / 4)):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self.timeout:
                self._kill(workers)
                return

    def _kill(self, workers: Workers) -> None:
        alive = workers.alive()
        for pid in alive:
            stack = workers.stack(pid) or "no answer: it waits for the disk or the network, or was stopped."
            log.warning("Worker %d: %s", pid, stack)
        self.reason = f"The workers delivered no batch for {self.timeout:g} s (data.timeout; their stacks are above)"
        for pid in alive:
            _send(signal.SIGKILL, pid)
        workers.pids.clear()


def _send(number: signal.Signals, pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
