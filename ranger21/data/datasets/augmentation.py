"""The settings of the training augmentation, the sizes and the interpolation of image files. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ranger21.data.datasets.base import DataConfig
from ranger21.data.pack import INTERPOLATIONS
from ranger21.system.checks import COUNT, require, require_choice, require_number
from ranger21.system.errors import UserError

LARGEST = 10_000  # pixels per side
PAPER, RAND = "paper", "rand"
AUGMENTS = (PAPER, "rrc", "trivial", RAND)
STEP = 32  # the crop grows in steps of this many pixels


@dataclass
class AugmentationConfig(DataConfig):
    """The settings of `data=imagenet` that determine what is done with an image.

    Settings that are None use torchvision's default, or the training's value. Older runs lack those with a default.

    Attributes:
        JITTER: Strength of the color jitter in the files of `configs/data/`.
    """

    JITTER: ClassVar[float] = 0.4

    resize: int
    resize_mode: str
    crop: int
    flip: float
    brightness: float
    contrast: float
    saturation: float
    augment: str = field(default=PAPER, kw_only=True)
    scale: list[float] | None = field(default=None, kw_only=True)
    ratio: list[float] | None = field(default=None, kw_only=True)
    rand_operations: int | None = field(default=None, kw_only=True)
    rand_magnitude: int | None = field(default=None, kw_only=True)
    interpolation: str = field(default=INTERPOLATIONS[0], kw_only=True)
    eval_resize: int | None = field(default=None, kw_only=True)
    eval_crop: int | None = field(default=None, kw_only=True)
    crop_start: int | None = field(default=None, kw_only=True)
    crop_ramp: list[int] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data.resize_mode", self.resize_mode, ("squash", "shorter_side"))
        require_choice("data.augment", self.augment, AUGMENTS)
        require_choice("data.interpolation", self.interpolation, INTERPOLATIONS)
        self._require_sizes()
        require(0 <= self.flip <= 1, "data.flip", self.flip, "a probability, from 0 to 1")
        self._require_jitter()
        self._require_crops()
        self._require_rand()
        self._require_ramp()

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.crop, self.crop

    @property
    def sizes(self) -> dict[str, int]:
        return {"data.crop": self.crop} | ({} if self.crop_start is None else {"data.crop_start": self.crop_start})

    def crop_at(self, epoch: int) -> int:
        """Return the size of the training images in an epoch, counted from 0.

        It is `crop_start` up to and including the first epoch of the ramp, `crop` from its last, and grows linearly
        between them, rounded to a multiple of STEP, as in ffcv-imagenet.
        """
        if self.crop_start is None or self.crop_ramp is None:
            return self.crop
        first, last = self.crop_ramp
        if epoch <= first or epoch >= last:
            return self.crop_start if epoch <= first else self.crop
        return STEP * round((self.crop_start + (self.crop - self.crop_start) * (epoch - first) / (last - first)) / STEP)

    def require_effect(self, epochs: int, length: str) -> None:
        if self.crop_start is not None and self.crop_at(epochs - 1) == self.crop_start:
            raise UserError(
                f"data.crop_ramp={self.crop_ramp} has no effect, because the crop is still data.crop_start="
                f"{self.crop_start} in the last epoch, {epochs - 1} ({length}; the first epoch is 0): choose earlier "
                "epochs."
            )

    @property
    def eval_shape(self) -> tuple[int, int, int]:
        return 3, self.eval_sizes[1], self.eval_sizes[1]

    @property
    def eval_sizes(self) -> tuple[int, int]:
        """The resize and the crop of validation images."""
        return self.eval_resize or self.resize, self.eval_crop or self.crop

    @property
    def uses_stored_resize(self) -> bool:
        """Whether some use of an image is that of the image resized to `data.resize`, which a pack stores."""
        return self.augment == PAPER or self.eval_sizes[0] == self.resize

    @property
    def begins_with_resize(self) -> bool:
        """Whether every use of an image begins with `data.resize`, so that it may be done in advance."""
        return self.augment == PAPER and self.eval_sizes[0] == self.resize

    def _require_sizes(self) -> None:
        for name in ("crop", "resize", "eval_crop", "eval_resize"):
            if getattr(self, name) is not None:
                require_number(f"data.{name}", getattr(self, name), 1, LARGEST)
        if self.augment == PAPER:
            require(self.resize >= self.crop, "data.resize", self.resize, f"at least data.crop={self.crop}")
        resize, crop = self.eval_sizes
        key = "data.resize" if self.eval_resize is None else "data.eval_resize"
        least = "data.crop" if self.eval_crop is None else "data.eval_crop"
        require(resize >= crop, key, resize, f"at least {least}={crop}")

    def _require_jitter(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"data.{name}", value, "from 0 to 1 (0.4: factors from 0.6 to 1.4)")
            if self.augment != PAPER and value != self.JITTER:
                raise UserError(
                    f"data.{name}={value} has no effect with data.augment={self.augment}, which has no color jitter: "
                    f"leave it out, or choose data.augment={PAPER}."
                )

    def _require_crops(self) -> None:
        for name, most in (("scale", 1.0), ("ratio", 100.0)):
            value = getattr(self, name)
            if value is None:
                continue
            if self.augment == PAPER:
                raise UserError(
                    f"data.{name}={value} has no effect with data.augment={PAPER}, whose crops all have one size: "
                    "leave it out, or choose data.augment=rrc, trivial or rand."
                )
            possible = len(value) == 2 and 0 < value[0] <= value[1] <= most
            require(possible, f"data.{name}", value, f"two numbers above 0 and at most {most:g}, the smaller first")

    def _require_rand(self) -> None:
        for name, low, high in (("rand_operations", 1, 15), ("rand_magnitude", 0, 31)):
            value = getattr(self, name)
            if value is None:
                continue
            if self.augment != RAND:
                raise UserError(
                    f"data.{name}={value} has no effect with data.augment={self.augment}: leave it out, or choose "
                    f"data.augment={RAND}."
                )
            require_number(f"data.{name}", value, low, high)

    def _require_ramp(self) -> None:
        start, ramp = self.crop_start, self.crop_ramp
        if start is None and ramp is None:
            return
        if start is None or ramp is None:
            lacks = "data.crop_start" if start is None else "data.crop_ramp"
            raise UserError(
                f"{lacks} is missing: the crop grows from data.crop_start to data.crop={self.crop} between the two "
                "epochs of data.crop_ramp, as in data.crop_start=160 data.crop_ramp=[34,41]."
            )
        growing = 1 <= start < self.crop and start % STEP == 0 and self.crop % STEP == 0
        what = f"a multiple of {STEP} below data.crop={self.crop}, which must be one, too"
        require(growing, "data.crop_start", start, what)
        possible = len(ramp) == 2 and 0 <= ramp[0] <= ramp[1] < COUNT
        require(possible, "data.crop_ramp", ramp, "two epochs, the earlier first, such as [34,41]")
