"""Datasets of image files in a folder for each class, or a pack: ImageNet, and the drawn sample. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ranger21.data.datasets.augmentation import AugmentationConfig
from ranger21.data.datasets.classes import read_classes
from ranger21.data.layout import cache_directory, class_folders, require_image_folders
from ranger21.data.pack import read_facts, require_pack
from ranger21.system.checks import NEUTRAL, require, require_choice, require_path
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

if TYPE_CHECKING:
    from ranger21.data.build import Data
    from ranger21.data.validation import Preprocessing, Validation

WNID = re.compile(r"n\d{8}")  # the name of one of ImageNet's classes


@dataclass
class ImageFolderConfig(AugmentationConfig):
    """The settings of `data=imagenet`.

    Attributes:
        TRAIN: Number of training images of the complete dataset.
        CLASSES: A hash of the names of its classes, sorted and one per line; None if they are not checked.
    """

    known_classes = 1000
    TRAIN: ClassVar[int] = 1_281_167
    CLASSES: ClassVar[str | None] = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"

    pack: str | None = field(metadata=NEUTRAL)
    stage: str | None = field(default=None, kw_only=True, metadata=NEUTRAL)  # missing in older runs
    transforms: str
    classes: Any  # a number; or, after `__post_init__`, possibly names
    fraction: float
    on_bad_image: str = field(
        metadata=NEUTRAL
    )  # no effect on results: without `substitute`, no run with an unreadable image reaches its end

    def __post_init__(self) -> None:
        if self.root == "" and os.environ.get("IMAGENET_DIR") == "":  # an empty variable counts as not set
            self.root = None
        super().__post_init__()
        if self.pack is not None:
            self.pack = require_path("data.pack", self.pack)
        if self.stage is not None:
            quoted = "a folder on each node's own disk; quote a variable that is set there, as in 'data.stage=$TMPDIR'"
            require(bool(self.stage.strip()), "data.stage", repr(self.stage), quoted)
        self.classes = read_classes(self.classes)
        require(0 < self.fraction <= 1, "data.fraction", self.fraction, "above 0 and at most 1")
        require_choice("data.transforms", self.transforms, ("fast", "pil"))
        require_choice("data.on_bad_image", self.on_bad_image, ("error", "substitute"))

    def classes_chosen(self) -> int:
        assert self.known_classes is not None
        chosen = len(self.classes) if isinstance(self.classes, list) else self.classes or self.known_classes
        return min(chosen, self.known_classes)

    def training_images(self) -> float | None:
        """Return the approximate number of training images; None if data.root or data.pack hold other data."""
        assert self.known_classes is not None
        if not self._looks_complete():
            return None
        share = self.fraction * self.classes_chosen() / self.known_classes
        return round(self.TRAIN * share) - self.holdout

    def default_root(self) -> Path | None:
        """Return the folder with train/ and val/ that is used if `data.root` is not set, or None."""
        return None

    def image_root(self) -> Path:
        """Return the folder with train/ and val/."""
        return Path(self.root) if self.root else self.default_root() or Path()

    def _class_names(self) -> list[str]:
        """Return the names of the classes in data.pack or data.root; none if they are missing."""
        root = self.root or self.default_root()
        try:
            if self.pack:
                return [str(name) for name in read_facts(Path(self.pack))["classes"]]
            return class_folders(Path(root) / "train") if root else []
        except (OSError, UserError):
            return []

    def _looks_complete(self) -> bool:
        """Return whether the images are missing, or have the complete dataset's classes, the first one full."""
        assert self.known_classes is not None
        names = self._class_names()
        if self.pack or not names:
            return not names or len(names) == self.known_classes
        try:
            with os.scandir(self.image_root() / "train" / names[0]) as first:
                found = sum(1 for _ in first)
        except OSError:
            return True
        return len(names) == self.known_classes and found > self.TRAIN / self.known_classes / 2

    def other_classes(self) -> str | None:
        names = self._class_names()
        if not names or self.CLASSES is None:
            return None
        if hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest() == self.CLASSES:
            return None
        if self.classes is not None and all(WNID.fullmatch(name) for name in names):  # some of ImageNet's, as chosen
            return None
        place = f"data.pack={self.pack}" if self.pack else f"data.root={self.image_root()}"
        return f"the classes of {place} ({first_few(names)}) are not ImageNet's {self.known_classes:,} classes"

    def require(self) -> None:
        if self.stage and not self.pack:
            text = "requires data.pack: only packs can be staged. Make one with scripts/pack.py"
            raise UserError(f"data.stage={self.stage} {text}.")
        if self.pack:
            self.require_pack()
        else:
            self.require_folders()

    def require_pack(self) -> dict[str, Any]:
        """Return the contents of pack.json. Raises a UserError if the pack is damaged or does not fit the settings."""
        if self.eval_sizes[0] > self.resize:
            raise UserError(
                f"data.eval_resize={self.eval_resize} is larger than the images of data.pack, which have "
                f"data.resize={self.resize}: make a pack with a larger data.resize, or leave out data.pack."
            )
        again = self.interpolation if self.uses_stored_resize else None
        return require_pack(Path(self.pack or ""), self.resize, self.resize_mode, again)

    def require_folders(self) -> None:
        """Raise a UserError if train/ or val/ is missing or lacks a chosen class."""
        if not self.root:
            raise UserError(
                "There is no ImageNet. Set data.root=/path/to/imagenet or the variable IMAGENET_DIR to the folder that "
                "contains train/ and val/; experiment=demo needs no data."
            )
        require_image_folders(Path(self.root), self.classes)

    def prepare(self) -> None:
        from ranger21.data.folders import prepare

        prepare(self)

    def prepare_validation(self) -> None:
        from ranger21.data.validation import prepare_validation

        prepare_validation(self)

    def open(self, seed: int) -> Data:
        from ranger21.data.folders import open_images

        return open_images(self, seed)

    def view(self) -> Preprocessing:
        from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD, ToInput
        from ranger21.data.transforms import FRONT_ENDS
        from ranger21.data.validation import Preprocessing

        transform = FRONT_ENDS[self.transforms][1](self)
        to_input = ToInput(self.mean or IMAGENET_MEAN, self.std or IMAGENET_STD)
        return Preprocessing(transform, to_input, self.eval_shape)

    def open_validation(self, view: Preprocessing, known: list[str] | None = None) -> Validation:
        from ranger21.data.validation import open_validation

        return open_validation(self, view, known)

    def folder(self) -> Path:
        return self.image_root()

    def named_place(self) -> dict[str, str]:
        return {"pack": str(Path(self.pack).absolute())} if self.pack else super().named_place()


@dataclass
class SampleConfig(ImageFolderConfig):
    """The settings of `data=sample`, which is drawn on first use: 10 classes with 100 training images each."""

    known_classes = 10
    TRAIN = 1000
    CLASSES = None

    def default_root(self) -> Path:
        return cache_directory() / "sample"

    def require_folders(self) -> None:
        pass  # the images are drawn, not read from folders

    def draw(self) -> None:
        """Draw the images unless they exist."""
        from ranger21.data.sample import ensure_sample

        ensure_sample(self.image_root())

    def prepare(self) -> None:
        if not self.pack:
            self.draw()
        super().prepare()

    def prepare_validation(self) -> None:
        if not self.pack and not self.root:
            self.draw()
        super().prepare_validation()
