"""Sums that stay on the device, so that no step waits for it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ranger21.engine.labels import Labels, Mixed
from ranger21.system.distributed import World

NEVER = 2**62
GIVE_UP_AFTER = 10  # consecutive skipped steps


class Meter:
    """Sums of the training loss and of correct predictions since the last log line, on this rank's device."""

    def __init__(self, world: World) -> None:
        self._world = world
        dtype = torch.float32 if world.device.type == "mps" else torch.float64
        self._sums = torch.zeros(3, device=world.device, dtype=dtype)  # images, loss x images, correct predictions

    def add(self, loss: Tensor, logits: Tensor, labels: Labels) -> None:
        """Add the images of one pass, unless its loss is not finite. A mixed image counts with its larger share."""
        images = torch.full_like(loss, len(logits))
        right = (logits.argmax(1) == (labels.larger if isinstance(labels, Mixed) else labels)).sum()
        row = torch.stack([images, loss * images, right.to(loss.dtype)])
        self._sums += torch.where(loss.isfinite(), row, 0.0)

    def collect(self) -> list[float]:
        """Return the sums over all ranks and move them to rank 0. Waits for the device."""
        total = self._world.reduce(self._sums)
        self._sums = total if self._world.main else torch.zeros_like(total)
        return total.tolist()

    def restore(self, sums: Sequence[float]) -> None:
        if self._world.main:
            self._sums = torch.tensor(sums, device=self._sums.device, dtype=self._sums.dtype)

    def metrics(self) -> dict[str, float]:
        """Return train/loss (with label smoothing) and train/acc1 (per cent) since the last reset."""
        images, loss, right = self.collect()
        if not images:
            return {}
        return {"train/loss": loss / images, "train/acc1": 100 * right / images}

    def reset(self) -> None:
        self._sums.zero_()


class NonFinite:
    """Counts steps that were not finite, on the device: the first, those skipped, and those skipped in a row."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._first = torch.tensor(NEVER, device=world.device)
        self._counts = torch.zeros(3, device=world.device, dtype=torch.int64)  # skipped, in a row now, most in a row

    def saw(self, step: int, bad: Tensor) -> None:
        """Record whether the loss of a step was not finite; `bad` is a boolean scalar on the device."""
        self._first = torch.where(bad, self._first.clamp(max=step), self._first)

    def left_out(self, step: int, bad: Tensor) -> None:
        """Record whether a step was skipped; `bad` must be the same on all ranks."""
        total, row, most = self._counts
        first_of_row = torch.where(bad & (row == GIVE_UP_AFTER - 1), step - GIVE_UP_AFTER + 1, self._first)
        self._first = torch.minimum(self._first, first_of_row)
        row = torch.where(bad, row + 1, torch.zeros_like(row))
        self._counts = torch.stack([total + bad, row, torch.maximum(most, row)])

    def first(self) -> int | None:
        """Return the step of the divergence: the first bad one on any rank, or the first of too many skipped in a row.

        None if there is none. Waits for the device.
        """
        step = int(self._world.reduce(self._first, "min").item())
        return None if step == NEVER else step

    def skipped(self) -> int:
        """Return the number of steps skipped so far. Waits for the device."""
        return int(self._counts[0].item())

    def gave_up(self) -> bool:
        """Return whether too many steps in a row were skipped. Waits for the device."""
        return int(self._counts[2].item()) >= GIVE_UP_AFTER

    def state(self) -> list[int]:
        return self._counts.tolist()

    def restore(self, counts: Sequence[int]) -> None:
        self._counts = torch.tensor(counts, device=self._counts.device)
