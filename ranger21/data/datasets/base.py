"""The interface of a dataset: its settings, what is known of it in advance, and how it is opened. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ranger21.data.imbalance import zipf
from ranger21.system.checks import COUNT, NEUTRAL, require, require_number, require_path

if TYPE_CHECKING:
    from ranger21.data.build import Data
    from ranger21.data.late import LateDraws
    from ranger21.data.validation import Preprocessing, Validation


@dataclass
class DataConfig:
    """The settings of a dataset: the keys of its file in `configs/data/`.

    A dataset subclasses it, adds a field for each key of its own, and overrides the methods. `ArrayConfig` does most
    of that for small images in memory, and `ImageFolderConfig` for folders of image files.

    Attributes:
        known_classes: Number of classes before any selection; None if it is known only from the files.
    """

    known_classes: ClassVar[int | None] = None

    name: str
    root: str | None = field(metadata=NEUTRAL)
    batch_size: int
    workers: int | None = field(metadata=NEUTRAL)
    timeout: float = field(metadata=NEUTRAL)
    eval_batch_size: int = field(metadata=NEUTRAL)
    holdout: int = field(default=0, kw_only=True)  # missing in older runs
    imbalance: float | None = field(default=None, kw_only=True)  # missing in older runs
    mean: list[float] | None = field(default=None, kw_only=True)  # missing in older runs, like those below
    std: list[float] | None = field(default=None, kw_only=True)
    erase: float = field(default=0.0, kw_only=True)
    mixup: float = field(default=0.0, kw_only=True)
    cutmix: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if self.imbalance is not None:
            require_number("data.imbalance", self.imbalance, 0, 11, open_low=True)
        for name in ("batch_size", "eval_batch_size"):
            require_number(f"data.{name}", getattr(self, name), 1, COUNT)
        require_number("data.holdout", self.holdout, 0, COUNT)
        if self.root is not None:
            self.root = require_path("data.root", self.root)
        if self.workers is not None:
            require_number("data.workers", self.workers, 0, 1025)
        require(0 <= self.erase <= 1, "data.erase", self.erase, "a probability, from 0 to 1")
        for name in ("mixup", "cutmix"):
            require_number(f"data.{name}", getattr(self, name), 0, 1e3)
        for name, least in (("mean", 0.0), ("std", 1e-3)):
            value, channels = getattr(self, name), self.shape[0]
            possible = value is None or (len(value) == channels and all(least <= one <= 1 for one in value))
            what = f"a list with a number from {least:g} to 1 for each channel ({channels})"
            require(possible, f"data.{name}", value, what)
        require_number("data.timeout", self.timeout, 0, 1e6, open_low=True)  # more would overflow

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images that a model is trained on."""
        raise NotImplementedError

    @property
    def sizes(self) -> dict[str, int]:
        """Sides in pixels of the images that a model gets in training, by the setting that determines them."""
        return {"the data's size": self.shape[1]}

    @property
    def eval_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images that a model is validated on."""
        return self.shape

    def require_effect(self, epochs: int, length: str) -> None:
        """Raise a UserError if a setting has no effect in a run of so many epochs, the last of which may be cut short.

        Args:
            epochs: Length of the run.
            length: The setting that determines it, for the message.
        """

    def classes_chosen(self) -> int | None:
        """Return the number of classes of a run; None if it is known only from the files."""
        return self.known_classes

    def training_images(self) -> float | None:
        """Return the approximate number of training images before `data.imbalance`, or None if it is unknown."""
        return None

    def epoch_images(self) -> float | None:
        """Return the approximate number of images per epoch; None if it is known only from the files."""
        images, classes = self.training_images(), self.classes_chosen()
        if images is None or self.imbalance is None:
            return images
        return sum(zipf(int(images // classes), classes, self.imbalance)) if classes else None

    def other_classes(self) -> str | None:
        """Return a clause which says that the images have other classes than the dataset; None if they may not."""
        return None

    def require(self) -> None:
        """Raise a UserError if the images are missing. Checks names only, and imports no torch."""

    def require_here(self) -> None:
        """Raise a UserError if the images would have to be drawn or downloaded first."""
        self.require()

    def prepare(self) -> None:
        """Draw or download missing images, and warn about unused files. Only one process may call this at a time."""

    def prepare_validation(self) -> None:
        """Prepare the validation images only."""
        self.prepare()

    def open(self, seed: int) -> Data:
        """Open the dataset. `data.imbalance` is applied later, by `build_data`.

        Args:
            seed: Seed of the augmentation.

        Raises:
            UserError: If the images are missing or invalid.
        """
        raise NotImplementedError

    def view(self) -> Preprocessing:
        """Return the preprocessing of validation images in a run with these settings."""
        raise NotImplementedError

    def open_validation(self, view: Preprocessing, known: list[str] | None = None) -> Validation:
        """Open the validation images only. No training images are needed.

        Args:
            view: The preprocessing.
            known: Classes of the model. If the settings select a subset (`data.classes`), the classes among these are
                opened instead, or all if there are none. None opens the classes that `data.classes` selects.

        Raises:
            UserError: If the images are missing.
        """
        raise NotImplementedError

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0

    def late(self, seed: int) -> LateDraws | None:
        """Return what draws the operations on normalized training batches; None if there are none."""
        from ranger21.data.late import LateDraws

        return LateDraws(self.erase, self.mixup, self.cutmix, seed) if self.erase or self.mixes else None

    def folder(self) -> Path:
        """Return the folder with the images. Call `prepare` first."""
        raise NotImplementedError

    def named_place(self) -> dict[str, str]:
        """Return the folder given in the settings, as an entry of the manifest; {} if none is given."""
        return {"root": str(Path(self.root).absolute())} if self.root else {}
