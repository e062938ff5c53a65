"""Samplers: the order of images, and their division among ranks and accumulation passes.

The images of step t are a pure function of (seed, t): the order of an epoch depends on (seed, epoch), the augmentation
of an image on (seed, epoch, index). The numbers of workers and ranks and restarts have no effect.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from ranger21.engine.course import Course
from ranger21.system.errors import UserError
from ranger21.system.randomness import ORDER, generator

Key = tuple[int, int]  # (epoch, index)


@dataclass(frozen=True)
class Share:
    """The part of each global batch that this process computes: `rank` of `world`, in `accumulate` passes."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def per_pass(self, batch_size: int, key: str = "data.batch_size") -> int:
        """Return the number of images per pass and rank; raise a UserError if the batch cannot be divided evenly.

        Args:
            batch_size: Global batch size.
            key: Its setting, for the message.
        """
        parts = self.world * self.accumulate
        if batch_size % parts:
            raise UserError(
                f"{key}={batch_size} cannot be divided evenly among {self.world} ranks x "
                f"trainer.accumulate={self.accumulate}. Choose a multiple of {parts}."
            )
        return batch_size // parts


def require_batches(images: int, batch_size: int, share: Share, start: int | None = None, mixes: bool = False) -> None:
    """Raise a UserError if a global batch is larger than the training set or cannot be divided among the ranks.

    Args:
        images: Number of training images.
        batch_size: Global batch size, the largest one if it grows.
        share: The part of this process.
        start: Size of the first batches if the batch size grows, else None.
        mixes: Whether images are mixed in pairs, so that each pass needs an even number of them.
    """
    if batch_size > images:
        raise UserError(f"data.batch_size={batch_size} is larger than the training set of {images} images.")
    size, key = (batch_size, "data.batch_size") if start is None else (start, "batch_schedule.start")
    if batch_size % size:
        raise UserError(f"data.batch_size={batch_size} must be a multiple of batch_schedule.start={start}.")
    per_pass = share.per_pass(size, key)
    if mixes and per_pass % 2:
        raise UserError(
            f"data.mixup and data.cutmix mix images in pairs, but {key}={size} is an odd number of images, {per_pass}, "
            f"per pass and rank. Choose a multiple of {2 * share.world * share.accumulate}."
        )


class TrainBatches(Sampler[list[Key]]):
    """Sample the keys of each pass of this process, from step `first` to step `last` (both counted from 1).

    An epoch is a permutation of the images, divided into global batches as `course` says. A global batch is divided
    into consecutive parts, one per rank, and these into passes.
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
    """Sample every image exactly once over all ranks, with equally many batches on each; some may be empty."""

    def __init__(self, images: int, batch_size: int, share: Share) -> None:
        batches = -(-images // (batch_size * share.world))
        self.batches = [b.tolist() for b in np.array_split(np.arange(share.rank, images, share.world), batches)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter([[(0, index) for index in batch] for batch in self.batches])
