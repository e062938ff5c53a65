"""What a landscape came to: landscape.json, which an interrupted command goes on from, and landscape.npz."""

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

from ranger21.data.identity import Agreement, compare
from ranger21.system.errors import UserError
from ranger21.system.files import newer, replacing, write_atomically
from ranger21.system.reading import Unreadable, read_json

log = logging.getLogger("ranger21")
FORMAT = 2  # 1 (which was not written down) knows nothing of the images
Row = list[float]


@dataclass(frozen=True)
class Sharpness:
    """The rise of the loss at a distance, along random directions: `values` (nats), one for each of `seeds`."""

    radius: float
    seeds: list[int]
    values: list[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float | None:
        """The sample standard deviation over the directions, None of a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def sentence(self) -> str:
        spread = "" if self.sd is None else f" ± {self.sd:.2g}"
        return f"sharpness {self.mean:.3g}{spread} (n = {len(self.values)})"


@dataclass(frozen=True)
class Mark:
    """A checkpoint in a picture: where it is, the surface's loss there, and its own by the ordinary evaluation."""

    checkpoint: str
    label: str
    step: int
    x: float
    y: float
    loss: float
    own_loss: dict[str, float]  # with the batch norms' statistics as `stored`, and as `recomputed`
    difference: float  # of `loss` from that of its own that has the same statistics
    sharpness: Sharpness


@dataclass(frozen=True)
class Station:
    """A checkpoint of a trajectory: the nearest point (x, y) of the plane, and how near that is.

    `captured`: what part of its squared distance from the plane's origin lies in the plane, from 0 to 1.
    """

    checkpoint: str
    step: int
    x: float
    y: float
    captured: float


@dataclass
class Surface:
    """Losses (nats), row j column i at (x[i], y[j]), as far as they are computed; NaN where they are not finite.

    Of so many images as there were: `images`, and `bn_images` for the batch norms' statistics of every point, 0 where
    those are not computed anew. `classes`: sentences that say which of the model's classes those of the data are.
    """

    title: str
    axes: tuple[str, str]
    x: list[float]
    y: list[float]
    cosine: float  # of the angle between the axes
    images: int
    bn_images: int
    classes: list[str] = field(default_factory=list)
    losses: list[Row] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    trajectory: list[Station] = field(default_factory=list)

    def heights(self) -> NDArray[np.float64]:
        return np.array(self.losses, dtype=np.float64)


class Record:
    """The files of a landscape in one directory.

    Args:
        identity: what its losses depend on, but for the images.
        images: those of each surface, as `ranger21.data.identity` knows them.
    """

    def __init__(self, out: Path, identity: dict[str, Any], images: list[dict[str, str]]) -> None:
        self.json, self.npz = out / "landscape.json", out / "landscape.npz"
        self.identity, self.images = identity, images

    def rows_of_before(self, surfaces: int) -> list[list[Row]]:
        """The rows that a command with the same identity has left for each surface; none where there is no record.

        Raises a UserError for the record of another landscape, of other images, or of a later version.
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
            raise UserError(f"{self.json} is damaged (it is not of this program): {choose}.") from error
        if then != json.loads(json.dumps(self.identity)) or len(found) != surfaces:
            raise UserError(f"{self.json} is of another landscape (of other weights, or with other options): {choose}.")
        if images is None:
            log.warning("%s does not tell its images: they are taken for those of now.", self.json)
        for one, other in zip(images or (), self.images, strict=False):
            if (compared := compare(one, other)).agreement is Agreement.DIFFERENT:
                raise UserError(f"{self.json} is of other images ({compared.why}): {choose}.")
        return found

    def save(self, surfaces: list[Surface], facts: dict[str, Any]) -> None:
        """Writes the JSON, with null for losses that are not finite."""
        values = facts | {"format": FORMAT, "identity": self.identity, "images": self.images}
        values |= {"surfaces": [asdict(surface) for surface in surfaces]}
        for surface, as_dict in zip(surfaces, values["surfaces"], strict=True):
            for mark, as_mark in zip(surface.marks, as_dict["marks"], strict=True):
                as_mark["sharpness"] |= {"mean": mark.sharpness.mean, "sd": mark.sharpness.sd}
        write_atomically(self.json, json.dumps(_finite(values), indent=1, ensure_ascii=False) + "\n")

    def save_arrays(self, surfaces: list[Surface]) -> None:
        """Writes x (s, i), y (s, j) and losses (s, j, i) of the s surfaces."""
        x, y, losses = (np.array([getattr(s, name) for s in surfaces]) for name in ("x", "y", "losses"))
        with replacing(self.npz) as new:
            np.savez_compressed(new, x=x, y=y, losses=losses)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
