"""The types and ranges of `data`."""

from dataclasses import dataclass, field
from pathlib import Path

from ranger21.config.checks import NEUTRAL, require, require_choice, require_number


@dataclass
class DataConfig:
    name: str
    root: str | None = field(metadata=NEUTRAL)
    batch_size: int
    workers: int | None = field(metadata=NEUTRAL)
    eval_batch_size: int = field(metadata=NEUTRAL)

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size"):
            require_number(f"data.{name}", getattr(self, name), 1)
        if self.root is not None:
            self.root = str(Path(self.root).expanduser())
        if self.workers is not None:
            require_number("data.workers", self.workers, 0)


@dataclass
class ImageFolderConfig(DataConfig):
    resize: int
    resize_mode: str
    crop: int
    flip: float
    brightness: float
    contrast: float
    saturation: float

    def __post_init__(self) -> None:
        super().__post_init__()
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
