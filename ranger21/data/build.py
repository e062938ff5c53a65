"""Open the dataset that the settings describe."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ranger21.data.datasets.base import DataConfig
from ranger21.data.images import ImageDataset
from ranger21.data.imbalance import Thinned, choose_zipf
from ranger21.data.in_memory import InMemory
from ranger21.tracking.splits import HOLDOUT, watched


@dataclass
class Data:
    """An opened dataset.

    Attributes:
        train: Training images.
        val: Official validation images.
        classes: Class names by label.
        channels: Number of channels of the model's input.
        to_input: Module that converts a uint8 batch and its remaining operations to the model's input.
        fingerprint: Changes if names, classes or file sizes of images change, or the storage format of a pack (for
            images in memory, if a pixel changes). See `ranger21.data.identity`.
        names: Changes if names or classes of images change.
        kept: Number of training images per class with data.imbalance, else None.
        skipped: Number of images that a pack lacks because they were unreadable when it was made.
        holdout: Images of the training split that are not used for training, or None.
        held_out: Hash of the names of the holdout.
    """

    train: ImageDataset
    val: ImageDataset
    classes: list[str]
    channels: int
    to_input: nn.Module
    fingerprint: str
    names: str
    kept: dict[str, int] | None = field(default=None, init=False)
    skipped: int = 0
    holdout: ImageDataset | None = None
    held_out: str = ""

    @property
    def watched(self) -> str:
        """The split used for validation before the end of a run."""
        return watched(self.holdout is not None)

    @property
    def counts(self) -> str:
        """The numbers of training and validation images, as text."""
        held = "" if self.holdout is None else f" + {len(self.holdout):,} held out"
        return f"{len(self.train):,}{held} + {len(self.val):,}"

    def validated(self, split: str) -> ImageDataset:
        """Return the validation images of a split: the holdout, or the official validation images."""
        return self.holdout if split == HOLDOUT and self.holdout is not None else self.val


def build_data(config: DataConfig, seed: int) -> Data:
    """Open the dataset; raise a UserError if it is missing or invalid."""
    return _imbalanced(config.open(seed), config, seed)


def _imbalanced(data: Data, config: DataConfig, seed: int) -> Data:
    """Apply data.imbalance to the training images. The fingerprint still covers all of them."""
    if config.imbalance is None:
        return data
    source: Any = data.train.source
    name = source.name if isinstance(source, InMemory) else source.index.all_paths().__getitem__
    chosen, kept = choose_zipf(source.labels, name, data.classes, config.imbalance, seed)
    data.train.source, data.kept = Thinned(source, chosen), kept
    return data


def build_if_there(config: DataConfig, seed: int) -> Data:
    """Open the dataset without drawing or downloading anything; raise a UserError if it is missing."""
    config.require_here()
    return build_data(config, seed)
