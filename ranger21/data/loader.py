"""Loader processes: batches made beside the run, and what happens when a process dies or hangs."""

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
RESTARTS = 2  # without a batch in between


def available_workers(ranks_here: int, device: str) -> int:
    """One process for each core a rank may use, less one for the training itself; at least 1, at most 8.

    None where the training is on the CPU: it needs every core itself, and the two would only get in each other's way.
    """
    if device == "cpu":
        return 0
    cores, step = granted_cores(), os.environ.get("SLURM_CPUS_ON_NODE", "")
    of_all = min(os.cpu_count() or 1, int(step) if step.isdigit() else 2**31)
    if "LOCAL_WORLD_SIZE" in os.environ or cores >= of_all:  # granted to all ranks together
        cores //= ranks_here
    return max(1, min(8, cores - 1))


class Loader:
    """Batches of `dataset` in the order of `batches`, made by `workers` processes (0: in this one).

    The processes live as long as this object. One that dies, or gives nothing for `timeout` seconds, is reported (the
    latter with where it is), and all are started anew at the batch that is due; what they make does not depend on it.
    `unreadable` has the sentences about images that others stand for, of the batches handed out.
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
        self._whole: DataLoader | None = None  # from the first batch on

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
                        del batch  # so that the next one can have its memory, while the cache still knows it
                    else:
                        return
                try:
                    raise batch
                finally:
                    del batch  # or the error would hold this frame, and with it the processes, in a circle
            except (RuntimeError, OSError, EOFError) as error:
                if not self.workers:
                    raise
                failures += 1
                reason = watch.reason or death(error)
                if failures > RESTARTS:
                    raise UserError(f"{reason}, {failures} times in a row: try fewer data.workers.") from error
            log.warning("%s: they are started anew.", reason)
            self._whole, loader = None, self._make(done)

    def _make(self, first: int) -> DataLoader:
        """torch's loader of the batches from number `first` on."""
        forks = self.workers > 0 and sys.platform == "linux"  # so that loaders are children of the run itself
        return DataLoader(
            self.dataset,
            batch_sampler=Rest(self.batches, first),
            num_workers=self.workers,
            collate_fn=as_made,
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


def as_made(batch: Any) -> Any:
    """The dataset make whole batches."""
    return batch


def death(error: Exception) -> str:
    """What torch's error says of a dead loader process. Raises any other error again."""
    told = any(words in str(error) for words in ("is killed by signal", "exited unexpectedly"))
    # One that dies when it has announced a batch, and before that was fetched, breaks the connection.
    broken = not isinstance(error, RuntimeError) and "in DataLoader worker process" not in str(error)
    if not told and not broken:
        raise error
    text = (str(error) or "connection lost").splitlines()[0].rstrip(".")
    return f"A loader process died, often for lack of memory ({text})"


def live_with_the_run(stacks: Connection, worker: int) -> None:
    """A loader process lives exactly as long as its run.

    A signal meant for the run (Ctrl-C, a scheduler's warning, a terminal that closes) must not end it before the
    checkpoint is written; the same signal from the run itself must. When the run is killed it must go too: torch's
    loaders can hang on, blocked in a queue that nobody reads. SIGUSR2 has it write where it is to `stacks`.
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
    """The processes of a loader, by their numbers, and a pipe by which each can say where it is."""

    def __init__(self) -> None:
        self.pids: set[int] = set()
        self._read, self.stacks = multiprocessing.Pipe(duplex=False)

    def alive(self) -> list[int]:
        """Return those that live: the number of one that died long ago may be another's by now."""
        return sorted(self.pids & {process.pid for process in multiprocessing.active_children()})

    def stack(self, pid: int) -> str:
        """Return where a process is, after half a second's silence; empty if it does not answer."""
        self._take(0)  # what a process wrote that has been killed since
        _send(signal.SIGUSR2, pid)
        return self._take(0.5).decode(errors="replace").strip()

    def _take(self, patience: float) -> bytes:
        text = b""
        while self._read.poll(patience):
            text += os.read(self._read.fileno(), 65536)
        return text


class Watch:
    """Kills loader processes that give nothing for `timeout` seconds, having noted in `reason` where they are.

    torch then finds them dead, as it finds any other that died; by itself it would wait for ever. `workers` are the
    processes; None: there are none to watch.
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
        """The loader's batches."""
        # torch would raise in whatever line the main thread is, in the middle of a step, when a process dies.
        here = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGCHLD)
        self._waiting_since = time.monotonic()  # processes that are to begin anew must answer, too
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
            stack = workers.stack(pid) or "it does not answer: it waits for the disk or the network, or was stopped."
            log.warning("Loader process %d: %s", pid, stack)
        self.reason = f"The loader processes gave nothing for {self.timeout:g} s (data.timeout; their stacks are above)"
        for pid in alive:
            _send(signal.SIGKILL, pid)
        workers.pids.clear()


def _send(number: signal.Signals, pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)
