"""The course of a run: which images of which epoch each step takes."""

import math
from dataclasses import dataclass

import numpy as np

from ranger21.system.errors import UserError

MOST_STEPS = 100_000_000  # each takes 16 bytes of memory


@dataclass(frozen=True)
class Growth:
    """A batch that grows from `start` images to its full size over the first `images` of training, as BLOOM's did."""

    start: int
    images: float

    def size(self, seen: int, full: int) -> int:
        """Return the batch size after `seen` images: a multiple of `start`, at most `full`."""
        multiples = full // self.start
        grown = int(seen * (multiples - 1) / self.images) if self.images else multiples
        return self.start * min(multiples, 1 + grown)


@dataclass(frozen=True)
class StepGrowth:
    """A batch that is multiplied by `factor` after every `every` images (Smith et al. 2018), up to `most` images."""

    start: int
    every: float
    factor: int
    most: int

    @property
    def images(self) -> float:
        """The number of images after which the batch has its full size."""
        return self.every * math.ceil(math.log(self.most / self.start) / math.log(self.factor) - 1e-9)

    def size(self, seen: int, full: int) -> int:
        """Return the batch size after `seen` images: `start` times a power of `factor`, at most `full`."""
        return full if seen >= self.images else self.start * self.factor ** int(seen / self.every)


class Course:
    """The images of each step, as consecutive places in the shuffled order of an epoch. Steps are counted from 1.

    The images left over at the end of an epoch, fewer than a batch, are not seen in that epoch.

    Args:
        images: the number of images in the training set.
        batch_size: the size of the whole batch, over all ranks and passes.
        epochs: the length of the run.
        steps: the length of the run in steps; replaces `epochs` if given.
        growth: how the batch grows up to `batch_size`; None keeps its size.

    Raises:
        UserError: if the run has more than 100,000,000 steps.
    """

    def __init__(
        self,
        images: int,
        batch_size: int,
        epochs: int,
        steps: int | None = None,
        growth: Growth | StepGrowth | None = None,
    ) -> None:
        if not 1 <= batch_size <= images:
            raise ValueError(f"batch_size = {batch_size} must lie between 1 and images = {images}.")
        self.images, self.batch_size, self.growth = images, batch_size, growth
        self.unit = growth.start if growth else batch_size  # every batch size is a multiple of it
        least = steps or epochs * (images // batch_size)
        if least > MOST_STEPS:
            raise UserError(
                f"A run of {least:,} steps is too long: the limit is {MOST_STEPS:,} steps. Lower trainer.steps or "
                "trainer.epochs, or raise data.batch_size."
            )
        per_epoch: list[np.ndarray] = []
        done, seen, epoch = 0, 0, 0
        while (done < steps) if steps else (epoch < epochs):
            sizes = self._epoch(seen)
            grown = growth is None or seen >= growth.images  # all later epochs have the same batches
            left = math.ceil((steps - done) / len(sizes)) if steps else epochs - epoch
            times = left if grown else 1
            per_epoch.extend([sizes] * times)
            done, seen, epoch = done + len(sizes) * times, seen + int(sizes.sum()) * times, epoch + times
        self._sizes = np.concatenate(per_epoch)
        self._ends = np.cumsum([len(sizes) for sizes in per_epoch])  # the last step of every epoch
        self._seen = np.cumsum(self._sizes)
        self.total_steps = steps or done

    def _epoch(self, seen: int) -> np.ndarray:
        """Return the batch sizes of the epoch that begins after `seen` images."""
        sizes: list[int] = []
        left = self.images
        while self.growth:
            size = self.growth.size(seen, self.batch_size)
            if size > left or size == self.batch_size:
                break
            sizes.append(size)
            left, seen = left - size, seen + size
        full = left // self.batch_size
        return np.array(sizes + [self.batch_size] * full, dtype=np.int64)

    def size(self, step: int) -> int:
        """Return the batch size of a step."""
        return int(self._sizes[step - 1])

    def seen(self, step: int) -> int:
        """Return the number of images seen up to and including a step."""
        return int(self._seen[step - 1]) if step else 0

    def place(self, step: int) -> tuple[int, int]:
        """Return the epoch of a step, counted from 0, and the place in its order where the step's images begin."""
        epoch = int(np.searchsorted(self._ends, step))
        return epoch, self.seen(step - 1) - (self.seen(int(self._ends[epoch - 1])) if epoch else 0)

    def epoch(self, step: int) -> float:
        """Return the number of epochs done after a step, including the fraction of the current one."""
        epoch = int(np.searchsorted(self._ends, step))
        if step == 0 or epoch == len(self._ends):
            return float(epoch)
        before = int(self._ends[epoch - 1]) if epoch else 0
        return epoch + (step - before) / (int(self._ends[epoch]) - before)

    def ends_epoch(self, step: int) -> int:
        """Return the number of epochs done if the step is the last of an epoch, else 0."""
        epoch = int(np.searchsorted(self._ends, step))
        return epoch + 1 if epoch < len(self._ends) and self._ends[epoch] == step else 0

    def steps_for_epochs(self, epochs: float) -> float:
        """Return the number of steps that `epochs` take; beyond the run's end, at its last epoch's pace."""
        ends = np.concatenate([[0], self._ends]).astype(float)
        if epochs >= len(self._ends):
            return float(ends[-1] + (epochs - len(self._ends)) * (ends[-1] - ends[-2]))
        return float(np.interp(epochs, np.arange(len(ends)), ends))

    def steps_for(self, images: float) -> float:
        """Return the number of steps that `images` take; beyond the run's end, with its last batch size."""
        if images >= self._seen[-1]:
            return len(self._seen) + (images - float(self._seen[-1])) / float(self._sizes[-1])
        step = int(np.searchsorted(self._seen, images))
        return step + (images - self.seen(step)) / self.size(step + 1)
