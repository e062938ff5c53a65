"""The order of the images, and the loaders that keep to it.

What is trained on at step t is a pure function of (seed, t): the order of an epoch of (seed, epoch), the augmentation
of an image of (seed, epoch, index). Neither the number of loader processes, nor of ranks, nor a restart changes it.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ranger21.course import Course
from ranger21.data.transforms import Transform
from ranger21.errors import UserError
from ranger21.randomness import ORDER, SAMPLE, generator

PR_SET_PDEATHSIG = 1  # of prctl(2): the signal that a process gets when its parent dies
Key = tuple[int, int]  # (epoch, index)
Batch = tuple[Tensor, Tensor]


class Source(Protocol):
    """Pictures with labels, by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Any, int]: ...


class Pictures(Dataset[Any]):
    """A source seen through a transform. A key is (epoch, index)."""

    def __init__(self, source: Source, transform: Transform, seed: int = 0) -> None:
        self.source, self.transform, self.seed = source, transform, seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> tuple[Tensor, int] | UserError:
        epoch, index = key
        try:
            image, label = self.source[index]
            return self.transform(image, generator(SAMPLE, self.seed, epoch, index)), label
        except UserError as error:  # carried to the main process whole; raised here it would arrive as a traceback
            return error


@dataclass(frozen=True)
class Share:
    """Which part of every global batch this process computes: `rank` of `world`, in `accumulate` passes."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def per_pass(self, batch_size: int, key: str = "data.batch_size") -> int:
        """Images in one pass of one rank. Raises a UserError if the global batch cannot be divided evenly."""
        parts = self.world * self.accumulate
        if batch_size % parts:
            raise UserError(
                f"{key}={batch_size} cannot be divided evenly among {self.world} ranks x "
                f"trainer.accumulate={self.accumulate}: choose a multiple of {parts}."
            )
        return batch_size // parts


def require_batches(images: int, batch_size: int, share: Share, start: int | None = None) -> None:
    """Raises a UserError if a global batch is larger than the training set, or cannot be divided among the ranks.

    `start`: the size of the first batches, where they grow.
    """
    if batch_size > images:
        raise UserError(f"data.batch_size={batch_size} is larger than the training set of {images} images.")
    if start is None:
        share.per_pass(batch_size)
    elif batch_size % start:
        raise UserError(f"data.batch_size={batch_size} must be a multiple of batch_schedule.start={start}.")
    else:
        share.per_pass(start, "batch_schedule.start")


class TrainBatches(Sampler[list[Key]]):
    """The keys of every pass of this process from step `first` to step `last`, both counted from 1.

    An epoch is a permutation of the images, cut into global batches as the course has them. A global batch is cut into
    one run of images for each rank, and that into passes.
    """

    def __init__(self, course: Course, seed: int, first: int, last: int, share: Share) -> None:
        self.course, self.seed = course, seed
        self.first, self.last, self.share = first, last, share
        self.per_pass = share.per_pass(course.unit)

    def __len__(self) -> int:
        images = self.course.seen(max(self.last, self.first - 1)) - self.course.seen(self.first - 1)
        return images // (self.per_pass * self.share.world)

    def __iter__(self) -> Iterator[list[Key]]:
        order, of_epoch = np.empty(0, dtype=np.int64), -1
        for step in range(self.first, self.last + 1):
            epoch, place = self.course.place(step)
            if epoch != of_epoch:
                order, of_epoch = generator(ORDER, self.seed, epoch).permutation(self.course.images), epoch
            images = self.course.size(step) // self.share.world
            start = place + self.share.rank * images
            for begin in range(start, start + images, self.per_pass):
                yield [(epoch, int(index)) for index in order[begin : begin + self.per_pass]]


class EvalBatches(Sampler[list[Key]]):
    """Every image exactly once over all ranks, and the same number of batches on each, some of which may be empty."""

    def __init__(self, images: int, batch_size: int, share: Share) -> None:
        batches = -(-images // (batch_size * share.world))
        self.batches = [b.tolist() for b in np.array_split(np.arange(share.rank, images, share.world), batches)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter([[(0, index) for index in batch] for batch in self.batches])


def collate(samples: Sequence[tuple[Tensor, int] | UserError]) -> Batch | UserError | None:
    """Images (n, channels, height, width) uint8 and labels (n,) int64; None for no samples; or the first error."""
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    if not samples:
        return None
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.tensor(labels)


def available_workers(ranks_here: int, device: str) -> int:
    """One process for each core a rank may use, less one for the training itself; at least 1, at most 8.

    None where the training is on the CPU: it needs every core itself, and the two would only get in each other's way.
    """
    if device == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores >= (os.cpu_count() or 1):  # all of the node's: shared with the other ranks; fewer: this rank's own
        cores //= ranks_here
    return max(1, min(8, cores - 1))


def _live_with_the_run(worker: int) -> None:
    """A loader process lives exactly as long as its run.

    A signal meant for the run (Ctrl-C, a scheduler's warning) must not end it before the checkpoint is written; the
    same signal from the run itself must. When the run is killed it must go too: torch's loaders can hang on, blocked
    in a queue that nobody reads.
    """
    for name in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(name, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_the_run, daemon=True).start()


def _obey_the_run() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class Loader:
    """Batches of `pictures` in the order of `batches`, made by `workers` processes (0: in this one)."""

    def __init__(self, pictures: Pictures, batches: Sampler[list[Key]], workers: int, pin_memory: bool) -> None:
        forks = workers > 0 and sys.platform == "linux"  # so that loaders are children of the run itself
        self._loader = DataLoader(
            pictures,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            worker_init_fn=_live_with_the_run,
            multiprocessing_context="fork" if forks else None,
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Generator[Batch | None, None, None]:
        try:
            for batch in self._loader:
                if isinstance(batch, UserError):
                    raise batch
                yield tuple(batch) if batch is not None else None
        except RuntimeError as error:
            if not any(words in str(error) for words in ("is killed by signal", "exited unexpectedly")):
                raise
            reason = str(error).splitlines()[0].rstrip(".")
            raise UserError(
                f"A loader process died ({reason}): often for lack of memory; try fewer data.workers."
            ) from error
