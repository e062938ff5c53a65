"""The types and ranges of `data`."""

import os
import re
from dataclasses import dataclass, field
from typing import Any

from ranger21.config.checks import COUNT, NEUTRAL, require, require_choice, require_number, require_path
from ranger21.system.errors import UserError
from ranger21.system.project import shipped

LARGEST = 10_000  # pixels of a side
LARGEST_LIST = 1 << 24  # bytes of a file of classes


@dataclass
class DataConfig:
    name: str
    root: str | None = field(metadata=NEUTRAL)
    batch_size: int
    workers: int | None = field(metadata=NEUTRAL)
    timeout: float = field(metadata=NEUTRAL)
    eval_batch_size: int = field(metadata=NEUTRAL)
    holdout: int = field(default=0, kw_only=True)  # which older runs do not have
    imbalance: float | None = field(default=None, kw_only=True)  # which older runs do not have

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
        require_number("data.timeout", self.timeout, 0, 1e6, open_low=True)  # a week and a half: more overflows


@dataclass
class ImageFolderConfig(DataConfig):
    pack: str | None = field(metadata=NEUTRAL)
    stage: str | None = field(default=None, kw_only=True, metadata=NEUTRAL)  # which older runs do not have
    transforms: str
    classes: Any  # how many; or, in a configuration that was read, their names
    fraction: float
    on_bad_image: str = field(metadata=NEUTRAL)  # where there is one, only `substitute` comes to an end
    resize: int
    resize_mode: str
    crop: int
    flip: float
    brightness: float
    contrast: float
    saturation: float

    def __post_init__(self) -> None:
        if self.root == "" and os.environ.get("IMAGENET_DIR") == "":  # a variable set to nothing is not set
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
        require_choice("data.resize_mode", self.resize_mode, ("squash", "shorter_side"))
        require_number("data.crop", self.crop, 1, LARGEST)
        require_number("data.resize", self.resize, 1, LARGEST)
        require(self.resize >= self.crop, "data.resize", self.resize, f"at least data.crop={self.crop}")
        require(0 <= self.flip <= 1, "data.flip", self.flip, "a probability, from 0 to 1")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"data.{name}", value, "from 0 to 1 (0.4: factors from 0.6 to 1.4)")


@dataclass
class FashionMNISTConfig(DataConfig):
    padding: int
    flip: float
    train_images: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("data.padding", self.padding, 0, 28)  # with more a crop may have nothing of the picture
        require(0 <= self.flip <= 1, "data.flip", self.flip, "a probability, from 0 to 1")
        require(1 <= self.train_images <= 60_000, "data.train_images", self.train_images, "from 1 to 60000")


def read_classes(wanted: Any) -> int | list[str] | None:
    """How many classes, or which, sorted. The names, not the file, are the run's.

    A file has one class a line: the wnid that begins the line, what stands before a tab, or else the whole line. Lines
    that begin with # are left out. In a list (also of numbers, which name numbered folders) each entry is a name.
    """
    if wanted is None:
        return None
    if isinstance(wanted, list):
        good = all(isinstance(name, str | int) and not isinstance(name, bool) and str(name).strip() for name in wanted)
        require(good, "data.classes", wanted, "a number of classes, a file, or a list of names such as [n01440764,7]")
        return _two_at_least([str(name) for name in wanted], wanted)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        require_number("data.classes", wanted, 2, COUNT)
        return wanted
    require(isinstance(wanted, str), "data.classes", wanted, "a number of classes, a file, or a list of names")
    try:
        path = shipped(require_path("data.classes", wanted))
        if (path.exists() and not path.is_file()) or path.stat().st_size > LARGEST_LIST:
            raise ValueError(f"it is not a regular file of at most {LARGEST_LIST:,} bytes")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        text = "a number of classes, or a file with the name of one on each line"
        raise UserError(f"data.classes={wanted} is not possible ({error}): it must be {text}.") from error
    return _two_at_least([_name(line) for line in lines if line.strip() and not line.startswith("#")], wanted)


def _name(line: str) -> str:
    wnid = re.match(r"\s*(n\d+)(?!\S)", line)
    return wnid[1] if wnid else line.partition("\t")[0].strip()


def _two_at_least(names: list[str], wanted: Any) -> list[str]:
    chosen = sorted(set(names))
    require(len(chosen) > 1, "data.classes", wanted, "at least two classes, since one leaves nothing to be told apart")
    return chosen
