"""The options of scripts/landscape.py and their checks. Imports no torch."""

from dataclasses import dataclass
from typing import Any

from ranger21.system.checks import require
from ranger21.system.errors import UserError


@dataclass(frozen=True)
class Settings:
    """The checkpoints, the region of the weight space, and the computation of the loss.

    Attributes:
        checkpoints: run directories or checkpoints.
        overrides: changes to the runs' configurations, as for train.py.
        directions: `filter`, `plain` or `plane`; None: `plane` for three checkpoints, else `filter`.
        points: number of points along each axis; odd, so that the checkpoint is in the middle.
        radius: length of each half axis, in norms of the weights (of each filter for `filter`).
        margin: margin around the three checkpoints of a plane, as a fraction of their extent.
        seed: seed of the random directions.
        images: number of images of the loss.
        split: the split of these images: `train`, `val`, or `holdout` if the run has one.
        bn: `recompute` or `keep` the running statistics of batch norms.
        bn_images: number of images for recomputing them, in full batches of data.batch_size.
        points_at_once: number of points under one vmap; 1: one after the other.
        trajectory: checkpoints whose path is drawn.
        sharpness_seeds: number of directions for the sharpness, with seeds from 0.
        sharpness_radius: distance along these directions, in norms of the filters.
        by_position: match the data's n-th class to the checkpoint's n-th class, whatever their names.
        ema: take the average of the weights (trainer.ema) instead of the raw weights.
    """

    checkpoints: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    directions: str | None = None
    points: int = 25
    radius: float = 1.0
    margin: float = 0.3
    seed: int = 0
    images: int = 1000
    split: str = "train"
    bn: str = "recompute"
    bn_images: int = 1024
    points_at_once: int = 1
    trajectory: tuple[str, ...] = ()
    sharpness_seeds: int = 5
    sharpness_radius: float = 0.25
    by_position: bool = False
    ema: bool = False

    def __post_init__(self) -> None:
        three = len(self.checkpoints) == 3
        if self.directions is None:
            object.__setattr__(self, "directions", "plane" if three else "filter")
        if self.directions == "plane" and not three:
            raise UserError(
                f"--directions plane cannot be used with {len(self.checkpoints)} "
                f"checkpoint{'s' if len(self.checkpoints) > 1 else ''}: a plane needs exactly three."
            )
        odd = self.points >= 3 and self.points % 2 == 1
        self._require("points", odd, "odd and at least 3, so that one point is in the middle")
        for name in ("images", "points_at_once", "sharpness_seeds"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("bn_images", self.bn_images >= 2, "at least 2, since a single image has no spread")
        for name in ("radius", "sharpness_radius"):
            self._require(name, 0 < getattr(self, name) < float("inf"), "above 0")
        self._require("margin", 0 <= self.margin < float("inf"), "at least 0")
        self._require("seed", 0 <= self.seed < 2**31, "from 0 to 2147483647")
        if self.trajectory and self.directions != "plane" and len(self.checkpoints) > 1:
            raise UserError(
                f"--trajectory needs a single plot, not {len(self.checkpoints)}: give one checkpoint, or three with "
                "--directions plane."
            )

    def _require(self, name: str, good: bool, what: str) -> None:
        require(good, f"--{name.replace('_', '-')}", getattr(self, name), what)

    def identity(self) -> dict[str, Any]:
        """Return the options on which the losses of a surface depend, besides the weights."""
        names = ["directions", "points", "images", "split", "bn"]
        names += ["margin"] if self.directions == "plane" else ["radius", "seed"]
        names += ["bn_images"] if self.bn == "recompute" else []
        names += ["by_position"] if self.by_position else []
        names += ["ema"] if self.ema else []
        return {name: getattr(self, name) for name in names} | {"overrides": list(self.overrides)}
