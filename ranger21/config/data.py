"""The types and ranges of `data`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranger21.config.checks import NEUTRAL, require, require_choice, require_number
from ranger21.errors import UserError


@dataclass
class DataConfig:
    name: str
    root: str | None = field(metadata=NEUTRAL)
    batch_size: int
    workers: int | None = field(metadata=NEUTRAL)
    timeout: float = field(metadata=NEUTRAL)
    eval_batch_size: int = field(metadata=NEUTRAL)

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size"):
            require_number(f"data.{name}", getattr(self, name), 1)
        if self.root is not None:
            self.root = str(Path(self.root).expanduser())
        if self.workers is not None:
            require_number("data.workers", self.workers, 0)
        require_number("data.timeout", self.timeout, 0, open_low=True)


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
        super().__post_init__()
        if self.pack is not None:
            self.pack = str(Path(self.pack).expanduser())
        if self.stage is not None:
            quoted = "a folder on each node's own disk; quote a variable that is set there, as in 'data.stage=$TMPDIR'"
            require(bool(self.stage.strip()), "data.stage", repr(self.stage), quoted)
        self.classes = read_classes(self.classes)
        require(0 < self.fraction <= 1, "data.fraction", self.fraction, "above 0 and at most 1")
        require_choice("data.transforms", self.transforms, ("fast", "pil"))
        require_choice("data.on_bad_image", self.on_bad_image, ("error", "substitute"))
        require_choice("data.resize_mode", self.resize_mode, ("squash", "shorter_side"))
        require_number("data.crop", self.crop, 1)
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
        require_number("data.padding", self.padding, 0)
        require(0 <= self.flip <= 1, "data.flip", self.flip, "a probability, from 0 to 1")
        require(1 <= self.train_images <= 60_000, "data.train_images", self.train_images, "from 1 to 60000")


def read_classes(wanted: Any) -> int | list[str] | None:
    """How many classes, or which: of a file the first word of each line. The names, not the file, are the run's."""
    if wanted is None:
        return None
    if isinstance(wanted, list):
        good = bool(wanted) and all(isinstance(name, str) for name in wanted)
        require(good, "data.classes", wanted, "a number of classes, a file or a list of names")
        return sorted(set(wanted))
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        require_number("data.classes", wanted, 1)
        return wanted
    try:
        lines = Path(str(wanted)).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        text = "a number of classes, or a file with the name of one on each line"
        raise UserError(f"data.classes={wanted} is not possible ({error}): it must be {text}.") from error
    names = sorted({line.split()[0] for line in lines if line.strip() and not line.startswith("#")})
    require(bool(names), "data.classes", wanted, "a file with at least one name")
    return names
