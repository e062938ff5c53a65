"""The course of a run: which images of which epoch every step takes. Knows numbers only."""

import math
from dataclasses import dataclass

import numpy as np

from ranger21.system.errors import UserError

MOST_STEPS = 100_000_000  # of which each takes 16 bytes of memory


@dataclass(frozen=True)
class Growth:
    """A batch that grows from `start` images to its full size while the first `images` are seen (BLOOM's way)."""

    start: int
    images: float

    def size(self, seen: int, full: int) -> int:
        """Images of the batch after `seen` images: a multiple of `start`, `full` at most."""
        multiples = full // self.start
        grown = int(seen * (multiples - 1) / self.images) if self.images else multiples
        return self.start * min(multiples, 1 + grown)


class Course:
    """Steps, counted from 1, as runs of images in an epoch's order.

    An epoch is cut into batches; what is left over at its end, less than a batch, is not seen in that epoch.

    Args:
        images: in the training set.
        batch_size: of the whole batch, over all ranks and passes.
        epochs: how long the run is,
        steps: or, where it is given, how many steps.
        growth: of the batch, up to `batch_size`.

    Raises:
        UserError: more steps than memory has room for.
    """

    def __init__(
        self, images: int, batch_size: int, epochs: int, steps: int | None = None, growth: Growth | None = None
    ) -> None:
        if not 1 <= batch_size <= images:
            raise ValueError(f"batch_size = {batch_size} must lie between 1 and images = {images}.")
        self.images, self.batch_size, self.growth = images, batch_size, growth
        self.unit = growth.start if growth else batch_size  # every batch is a multiple of it
        least = steps or epochs * (images // batch_size)
        if least > MOST_STEPS:
            raise UserError(
                f"A run of {least:,} steps is not possible, only one of {MOST_STEPS:,} at most: lower trainer.steps or "
                "trainer.epochs, or raise data.batch_size."
            )
        per_epoch: list[np.ndarray] = []
        done, seen, epoch = 0, 0, 0
        while (done < steps) if steps else (epoch < epochs):
            sizes = self._epoch(seen)
            grown = growth is None or seen >= growth.images  # then all epochs to come are alike
            left = math.ceil((steps - done) / len(sizes)) if steps else epochs - epoch
            times = left if grown else 1
            per_epoch.extend([sizes] * times)
            done, seen, epoch = done + len(sizes) * times, seen + int(sizes.sum()) * times, epoch + times
        self._sizes = np.concatenate(per_epoch)
        self._ends = np.cumsum([len(sizes) for sizes in per_epoch])  # the last step of every epoch
        self._seen = np.cumsum(self._sizes)
        self.total_steps = steps or done

    def _epoch(self, seen: int) -> np.ndarray:
        """The sizes of an epoch's batches, `seen` images into the run."""
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
        """Images in the batch of a step."""
        return int(self._sizes[step - 1])

    def seen(self, step: int) -> int:
        """Images up to and including a step."""
        return int(self._seen[step - 1]) if step else 0

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, from 0, and the place in its order at which the step's images begin."""
        epoch = int(np.searchsorted(self._ends, step))
        return epoch, self.seen(step - 1) - (self.seen(int(self._ends[epoch - 1])) if epoch else 0)

    def epoch(self, step: int) -> float:
        """Epochs done after a step, the part of the present one by its steps."""
        epoch = int(np.searchsorted(self._ends, step))
        if step == 0 or epoch == len(self._ends):
            return float(epoch)
        before = int(self._ends[epoch - 1]) if epoch else 0
        return epoch + (step - before) / (int(self._ends[epoch]) - before)

    def ends_epoch(self, step: int) -> int:
        """The number of epochs done if the step is the last of one, else 0."""
        epoch = int(np.searchsorted(self._ends, step))
        return epoch + 1 if epoch < len(self._ends) and self._ends[epoch] == step else 0

    def steps_for_epochs(self, epochs: float) -> float:
        """The number of steps in which so many epochs are done; past the end of the run, at its last epoch's pace."""
        ends = np.concatenate([[0], self._ends]).astype(float)
        if epochs >= len(self._ends):
            return float(ends[-1] + (epochs - len(self._ends)) * (ends[-1] - ends[-2]))
        return float(np.interp(epochs, np.arange(len(ends)), ends))

    def steps_for(self, images: float) -> float:
        """The number of steps in which so many images are seen; past the end of the run, at its last pace."""
        if images >= self._seen[-1]:
            return len(self._seen) + (images - float(self._seen[-1])) / float(self._sizes[-1])
        step = int(np.searchsorted(self._seen, images))
        return step + (images - self.seen(step)) / self.size(step + 1)
