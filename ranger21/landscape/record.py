"""The results of a landscape: landscape.json, from which an interrupted command continues, and landscape.npz."""

from __future__ import annotations

import json
import logging
import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranger21.data.identity import DataMatch, compare
from ranger21.system.errors import UserError
from ranger21.system.files import newer, replacing, write_atomically
from ranger21.system.reading import Unreadable, read_json

log = logging.getLogger("ranger21")
FORMAT = 2  # format 1 (unnumbered) does not identify the images
Row = list[float]


@dataclass(frozen=True)
class Sharpness:
    """The rise of the loss at a distance along random directions."""

    radius: float
    seeds: list[int]  # seeds of the directions
    values: list[float]  # rise of the loss in nats, one for each seed

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """The sample standard deviation over the directions; None for a single direction."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def sentence(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.2g}"
        return f"sharpness {self.mean:.3g}{spread} (n = {len(self.values)})"


@dataclass(frozen=True)
class MarkedCheckpoint:
    """A checkpoint in a figure: its place, the surface's loss there, and its own loss in the usual evaluation."""

    checkpoint: str
    label: str
    step: int
    x: float
    y: float
    loss: float
    own_loss: dict[str, float]  # with the batch norm statistics `stored` in the checkpoint, and `recomputed`
    difference: float  # difference of `loss` from the own loss with the same kind of statistics
    sharpness: Sharpness
    optimizer: str


@dataclass(frozen=True)
class TrajectoryPoint:
    """A checkpoint of a trajectory, projected onto the plane.

    Attributes:
        checkpoint: the checkpoint, as the user named it.
        step: the step of the checkpoint.
        x, y: coordinates of the nearest point of the plane.
        captured: fraction of its squared distance from the plane's origin that lies in the plane.
        optimizer: that of its run.
    """

    checkpoint: str
    step: int
    x: float
    y: float
    captured: float
    optimizer: str


@dataclass
class Surface:
    """A surface of losses and the checkpoints on it.

    Attributes:
        title: the title in figures.
        axes: labels of the axes.
        x, y: coordinates of the columns and rows.
        cosine: the cosine of the angle between the axes.
        images: number of images of the loss.
        bn_images: number of images of the batch norm statistics at every point; 0: the stored statistics are used.
        classes: sentences that say how the data's classes match the model's.
        losses: the rows computed so far, in nats; column i of row j is at (x[i], y[j]); NaN where not finite.
        marks: the checkpoints.
        trajectory: the projected path.
    """

    title: str
    axes: tuple[str, str]
    x: list[float]
    y: list[float]
    cosine: float
    images: int
    bn_images: int
    classes: list[str] = field(default_factory=list)
    losses: list[Row] = field(default_factory=list)
    marks: list[MarkedCheckpoint] = field(default_factory=list)
    trajectory: list[TrajectoryPoint] = field(default_factory=list)

    def heights(self) -> NDArray[np.float64]:
        return np.array(self.losses, dtype=np.float64)


class LandscapeRecord:
    """The files of a landscape in one folder.

    Args:
        out: the folder.
        identity: everything on which the losses depend, except the images.
        images: identity of each surface's images, as for `ranger21.data.identity.compare`.
    """

    def __init__(self, out: Path, identity: dict[str, Any], images: list[dict[str, str]]) -> None:
        self.json, self.npz = out / "landscape.json", out / "landscape.npz"
        self.identity, self.images = identity, images

    def rows_of_before(self, surfaces: int) -> list[list[Row]]:
        """Return the rows of each surface that an earlier command computed; empty lists if there is no record.

        Raises a UserError if the record has a different landscape, different images, or a later version.
        """
        choose = "choose another --out, or remove it"
        try:
            old = read_json(self.json, cure=choose)
            if late := newer(old, FORMAT):
                raise UserError(f"{self.json} cannot be used: {late}, or {choose}.")
            then, images = old["identity"], old.get("images")
            found = [
                [[math.nan if loss is None else loss for loss in row] for row in s["losses"]] for s in old["surfaces"]
            ]
        except Unreadable as error:
            if not error.missing:
                raise
            return [[] for _ in range(surfaces)]
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.json} is damaged or not a record of this program: {choose}.") from error
        if then != json.loads(json.dumps(self.identity)) or len(found) != surfaces:
            raise UserError(f"{self.json} has a different landscape (other weights or other options): {choose}.")
        if images is None:
            log.warning("%s does not identify its images: they are assumed to be the current ones.", self.json)
        for one, other in zip(images or (), self.images, strict=False):
            if (compared := compare(one, other)).match is DataMatch.DIFFERENT:
                raise UserError(f"{self.json} was computed on different images ({compared.why}): {choose}.")
        return found

    def save(self, surfaces: list[Surface], facts: dict[str, Any]) -> None:
        """Write landscape.json, with null for losses that are not finite."""
        values = facts | {"format": FORMAT, "identity": self.identity, "images": self.images}
        values |= {"surfaces": [asdict(surface) for surface in surfaces]}
        for surface, as_dict in zip(surfaces, values["surfaces"], strict=True):
            for mark, as_mark in zip(surface.marks, as_dict["marks"], strict=True):
                as_mark["sharpness"] |= {"mean": mark.sharpness.mean, "sd": mark.sharpness.sd}
        write_atomically(self.json, json.dumps(_finite(values), indent=1, ensure_ascii=False) + "\n")

    def save_arrays(self, surfaces: list[Surface]) -> None:
        """Write landscape.npz: x (s, i), y (s, j) and losses (s, j, i) of s surfaces."""
        x, y, losses = (np.array([getattr(s, name) for s in surfaces]) for name in ("x", "y", "losses"))
        with replacing(self.npz) as new:
            np.savez_compressed(new, x=x, y=y, losses=losses)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
