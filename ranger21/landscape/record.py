"""What a landscape came to: landscape.json, which an interrupted command goes on from, and landscape.npz."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranger21.files import replacing, write_atomically

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
    those are not computed anew.
    """

    title: str
    axes: tuple[str, str]
    x: list[float]
    y: list[float]
    cosine: float  # of the angle between the axes
    images: int
    bn_images: int
    losses: list[Row] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    trajectory: list[Station] = field(default_factory=list)

    def heights(self) -> NDArray[np.float64]:
        return np.array(self.losses, dtype=np.float64)


class Record:
    """The files of a landscape in one directory. `identity`: what its losses depend on."""

    def __init__(self, out: Path, identity: dict[str, Any]) -> None:
        self.json, self.npz, self.identity = out / "landscape.json", out / "landscape.npz", identity

    def rows_of_before(self, surfaces: int) -> list[list[Row]]:
        """The rows that a command with the same identity has left for each surface."""
        try:
            old = json.loads(self.json.read_text(encoding="utf-8"))
            if old["identity"] != json.loads(json.dumps(self.identity)):
                raise ValueError("another landscape")
            found = [
                [[math.nan if loss is None else loss for loss in row] for row in s["losses"]] for s in old["surfaces"]
            ]
        except (OSError, ValueError, KeyError, TypeError):
            found = []
        return found if len(found) == surfaces else [[] for _ in range(surfaces)]

    def save(self, surfaces: list[Surface], facts: dict[str, Any]) -> None:
        """Writes the JSON, with null for losses that are not finite."""
        values = facts | {"identity": self.identity, "surfaces": [asdict(surface) for surface in surfaces]}
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
