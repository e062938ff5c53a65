"""From the settings of a dataset to the dataset, ready to be loaded."""

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
    """A data set, ready to be loaded.

    `holdout` are images of the training split that are not trained on. `to_input` turns a uint8 batch on any device,
    and what is left to be done to it, into the model's input of `channels` channels; `fingerprint` changes when the
    names, classes or sizes in bytes of images do, or how a pack keeps them (of images in memory: when a pixel does),
    `names` when the names or classes do: `ranger21.data.identity` compares them with what was recorded.
    """

    train: ImageDataset
    val: ImageDataset
    classes: list[str]
    channels: int
    to_input: nn.Module
    fingerprint: str
    names: str
    kept: dict[str, int] | None = field(default=None, init=False)  # images of each class, with data.imbalance
    skipped: int = 0  # images of both splits that a pack lacks, because they could not be read when it was made
    holdout: ImageDataset | None = None
    held_out: str = ""  # a hash of the names of those in it

    @property
    def watched(self) -> str:
        """The split that is validated on before a run's end."""
        return watched(self.holdout is not None)

    @property
    def counts(self) -> str:
        """How many images there are for training and for validation."""
        held = "" if self.holdout is None else f" + {len(self.holdout):,} held out"
        return f"{len(self.train):,}{held} + {len(self.val):,}"

    def validated(self, split: str) -> ImageDataset:
        """The images of that split."""
        return self.holdout if split == HOLDOUT and self.holdout is not None else self.val


def build_data(config: DataConfig, seed: int) -> Data:
    """Open the dataset. Raises a UserError if it is not there or not what it should be."""
    return _imbalanced(config.open(seed), config, seed)


def _imbalanced(data: Data, config: DataConfig, seed: int) -> Data:
    """The data with the training images that data.imbalance leaves; its fingerprint is of all of them."""
    if config.imbalance is None:
        return data
    source: Any = data.train.source
    name = source.name if isinstance(source, InMemory) else source.index.all_paths().__getitem__
    chosen, kept = choose_zipf(source.labels, name, data.classes, config.imbalance, seed)
    data.train.source, data.kept = Thinned(source, chosen), kept
    return data


def build_if_there(config: DataConfig, seed: int) -> Data:
    """Open the dataset, but draw and download nothing. Raises a UserError if it is not there."""
    config.require_here()
    return build_data(config, seed)
