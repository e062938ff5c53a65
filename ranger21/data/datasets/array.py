"""Datasets of small images that are held in memory as arrays. Imports torch only when one is opened."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ranger21.data.datasets.base import DataConfig
from ranger21.data.subset import digest_of_names
from ranger21.system.checks import require, require_number
from ranger21.tracking.splits import HOLDOUT

if TYPE_CHECKING:
    from ranger21.data.build import Data
    from ranger21.data.in_memory import InMemory
    from ranger21.data.validation import Preprocessing, Validation


@dataclass
class ArrayConfig(DataConfig):
    """Base class of datasets whose images are read into memory.

    A subclass sets the attributes and implements `folder` and `read`.

    Attributes:
        CLASSES: Class names by label.
        SHAPE: Shape of an image, (channels, height, width).
        MEAN, STD: Mean and standard deviation of each channel over the training images, on a scale from 0 to 1.
        TRAIN: Number of training images.
    """

    CLASSES: ClassVar[tuple[str, ...]]
    SHAPE: ClassVar[tuple[int, int, int]]
    MEAN: ClassVar[tuple[float, ...]]
    STD: ClassVar[tuple[float, ...]]
    TRAIN: ClassVar[int]

    padding: int
    flip: float
    train_images: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("data.padding", self.padding, 0, self.SHAPE[1])  # with more, a crop could miss the image
        require(0 <= self.flip <= 1, "data.flip", self.flip, "a probability, from 0 to 1")
        possible = 1 <= self.train_images <= self.TRAIN
        require(possible, "data.train_images", self.train_images, f"from 1 to {self.TRAIN}")

    @abstractmethod
    def read(self, folder: Path, split: str) -> InMemory:
        """Read the images of a split ("train" or "val"); raise a UserError if the files are damaged or do not fit."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.SHAPE

    def classes_chosen(self) -> int:
        return len(self.CLASSES)

    def training_images(self) -> float:
        return min(self.train_images, self.TRAIN - self.holdout)

    def prepare(self) -> None:
        self.folder()

    def open(self, seed: int) -> Data:
        from ranger21.data.build import Data
        from ranger21.data.images import ImageDataset
        from ranger21.data.selection import choose_of_array, names_of_array
        from ranger21.data.transforms.arrays import AsIs, ShiftAndFlip

        folder, held, names = self.folder(), None, ""
        train, val = (self.read(folder, split) for split in ("train", "val"))
        if self.holdout:
            numbers = choose_of_array(train.labels, self.CLASSES, self.holdout, self.train_images)
            train, held = train.only(numbers["train"]), train.only(numbers[HOLDOUT])
            names = digest_of_names(names_of_array(numbers[HOLDOUT]))
        else:
            train = train.only(slice(self.train_images))
        pixels = f"pixels:{train.digest()}{val.digest()}" + (held.digest() if held else "")
        return Data(
            train=ImageDataset(train, ShiftAndFlip(self), seed, late=self.late(seed)),
            val=ImageDataset(val, AsIs()),
            classes=list(self.CLASSES),
            channels=self.SHAPE[0],
            to_input=self.view().to_input,
            fingerprint=pixels,
            names=pixels,
            holdout=ImageDataset(held, AsIs()) if held else None,
            held_out=names,
        )

    def view(self) -> Preprocessing:
        from ranger21.data.on_device import ToInput
        from ranger21.data.transforms.arrays import AsIs
        from ranger21.data.validation import Preprocessing

        return Preprocessing(AsIs(), ToInput(self.mean or self.MEAN, self.std or self.STD), self.SHAPE)

    def open_validation(self, view: Preprocessing, known: list[str] | None = None) -> Validation:
        from ranger21.data.images import ImageDataset
        from ranger21.data.validation import Validation

        folder = self.folder()
        images = self.read(folder, "val")
        dataset = ImageDataset(images, view.transform)
        return Validation(dataset, list(self.CLASSES), view, str(folder), f"{images.split}/{{}}".format)
