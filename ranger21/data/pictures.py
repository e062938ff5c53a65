"""Batches of pictures: a source seen through a transform."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ranger21.data.order import Key
from ranger21.data.transforms import Sample, Transform
from ranger21.errors import UserError
from ranger21.randomness import SAMPLE, generator

MOST_SUBSTITUTES = 100  # tried for one image


class Source(Protocol):
    """Pictures with labels, by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> tuple[Any, int]: ...


class Batch(NamedTuple):
    """Images uint8 (n, channels, height, width), their jitter float32 (n, 6) if it is to come, labels int64 (n,)."""

    images: Tensor
    jitter: Tensor | None
    labels: Tensor
    unreadable: list[str]  # sentences about the images that others stand for

    def to(self, device: torch.device) -> tuple[Tensor, Tensor | None, Tensor]:
        """Images, jitter and labels on the device; from pinned memory, without waiting for it."""
        jitter = self.jitter if self.jitter is None else self.jitter.to(device, non_blocking=True)
        return self.images.to(device, non_blocking=True), jitter, self.labels.to(device, non_blocking=True)


class Pictures(Dataset[Any]):
    """A source seen through a transform, a batch at a time. A key is (epoch, index).

    An image that cannot be read is an error; with `substitute`, the next one that can be, by its number, takes its
    place, label and all.
    """

    def __init__(self, source: Source, transform: Transform, seed: int = 0, substitute: bool = False) -> None:
        self.source, self.transform, self.seed, self.substitute = source, transform, seed, substitute

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[Key]) -> Batch | UserError | None:
        """The batch; None for no keys. An error is returned: raised in a loader process it would be a traceback."""
        samples, labels, unreadable = [], [], list[str]()
        try:
            for key in keys:
                sample, label = self.sample(key, unreadable)
                samples.append(sample)
                labels.append(label)
        except UserError as error:
            return error
        return collate(samples, labels, unreadable) if samples else None

    def sample(self, key: Key, unreadable: list[str]) -> tuple[Sample, int]:
        """Raises a UserError if the image cannot be read and none may, or can, stand for it."""
        epoch, index = key
        for distance in range(MOST_SUBSTITUTES if self.substitute else 1):
            try:
                image, label = self.source[(index + distance) % len(self)]
                return self.transform(image, generator(SAMPLE, self.seed, epoch, index)), label
            except UserError as error:
                failure = error
                unreadable.append(str(error))
        raise failure


def collate(samples: list[Sample], labels: list[int], unreadable: list[str]) -> Batch:
    """Stacks the images pixel by pixel (channels last), in a loader process in memory that it shares with the run."""
    images = default_collate([sample.pixels.permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)
    rows = [sample.jitter for sample in samples if sample.jitter is not None]
    jitter = torch.from_numpy(np.stack(rows)) if rows else None
    return Batch(images, jitter, torch.tensor(labels), unreadable)
