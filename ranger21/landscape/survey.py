"""Computation of landscapes: surfaces around checkpoints or on the plane through three, and sharpness."""

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ranger21.engine.precision import Precision
from ranger21.landscape import directions
from ranger21.landscape.loss import Loss
from ranger21.landscape.record import LandscapeRecord, MarkedCheckpoint, Row, Sharpness, Surface, TrajectoryPoint
from ranger21.landscape.settings import Settings
from ranger21.landscape.subject import Checkpoint, Images, LoadedCheckpoint, load_checkpoint, load_images
from ranger21.system import distributed
from ranger21.system.distributed import World
from ranger21.system.errors import UserError
from ranger21.system.processes import ProgressBar

log = logging.getLogger("ranger21")
TOLERANCE = 1e-6  # relative difference of the surface's loss at a checkpoint and the checkpoint's own loss


@dataclass(frozen=True)
class LossSlice:
    """A grid on a plane in the space of the weights."""

    subjects: list[LoadedCheckpoint]
    origin: Tensor  # (size,)
    axes: Tensor  # (2, size)
    places: list[tuple[float, float]]  # coordinates of the checkpoints
    xs: list[float]  # coordinates of the columns
    ys: list[float]  # coordinates of the rows
    names: tuple[str, str]  # labels of the axes

    @property
    def loss(self) -> Loss:
        return self.subjects[0].loss

    def at(self, coordinates: list[tuple[float, float]]) -> Tensor:
        """Return the weights (n, size) at n places."""
        return self.origin + torch.tensor(coordinates, dtype=torch.float64).to(self.origin) @ self.axes


def survey(settings: Settings, out: Path, facts: dict[str, Any]) -> list[Surface]:
    """Compute the remaining rows, and write all surfaces and `facts` to landscape.json and landscape.npz.

    Raises a UserError for checkpoints of different models on one plane, or if `out` has a different landscape.
    """
    checkpoints = [Checkpoint.read(source, settings.overrides, settings.ema) for source in settings.checkpoints]
    trajectory = [Checkpoint.read(source, settings.overrides, settings.ema) for source in settings.trajectory]
    same = [*(checkpoints[1:] if settings.directions == "plane" else []), *trajectory]
    for other in same:
        checkpoints[0].require_same_model(other)
    out.mkdir(parents=True, exist_ok=True)
    with distributed.join(checkpoints[0].config.trainer.device) as world:
        if world.size > 1:
            raise UserError("landscape.py runs in one process: start it without torchrun.")
        subjects = _subjects(checkpoints, settings, world)
        views = _views(subjects, settings)
        identity = settings.identity() | {"weights": [subject.digest for subject in subjects]}
        record = LandscapeRecord(out, identity, [subject.images for subject in subjects])
        surfaces = [_empty(view) for view in views]
        for surface, rows in zip(surfaces, record.rows_of_before(len(views)), strict=True):
            surface.losses = rows
        for view, surface in zip(views, surfaces, strict=True):
            for row in _rows(view, surface, settings.points_at_once):
                surface.losses.append(row)
                record.save(surfaces, facts)
            surface.marks = [_mark(view, number, settings) for number in range(len(view.subjects))]
            surface.trajectory = _stations(view, trajectory, world)
        record.save(surfaces, facts)
        record.save_arrays(surfaces)
    return surfaces


def _subjects(checkpoints: list[Checkpoint], settings: Settings, world: World) -> list[LoadedCheckpoint]:
    """Load the checkpoints; those with the same data share the images."""
    loaded: dict[str, Images] = {}
    subjects = []
    for checkpoint in checkpoints:
        config = checkpoint.config
        name = (
            "fp64" if config.trainer.precision == "fp64" else "fp32"
        )  # no autocast: its rounding would show in the surface
        precision, key = Precision(name, world.device), f"{name} {config.data}"
        if key not in loaded:
            loaded[key] = load_images(config.data, settings, world, precision)
        subjects.append(load_checkpoint(checkpoint, loaded[key], settings, world, precision))
    if settings.directions == "plane" and settings.bn == "keep" and subjects[0].loss.norms:
        raise UserError(
            "--bn keep cannot be used on a plane, because each of its three checkpoints has its own statistics: use "
            "--bn recompute."
        )
    return subjects


def _views(subjects: list[LoadedCheckpoint], settings: Settings) -> list[LossSlice]:
    if settings.directions == "plane":
        return [_plane(subjects, settings)]
    half, purposes = settings.points // 2, (directions.FIRST_AXIS, directions.SECOND_AXIS)
    steps = [settings.radius * step / half for step in range(-half, half + 1)]  # 0 exactly in the middle
    names = ("first direction", "second direction")
    views = []
    for subject in subjects:
        rest = (subject.weights, subject.layout, settings.seed)
        axes = [directions.random_direction(str(settings.directions), *rest, purpose) for purpose in purposes]
        views.append(LossSlice([subject], subject.weights, torch.stack(axes), [(0.0, 0.0)], steps, steps, names))
    return views


def _plane(subjects: list[LoadedCheckpoint], settings: Settings) -> LossSlice:
    """Return the plane through three checkpoints: the first is the origin, the second lies on the first axis."""
    points = torch.stack([subject.weights for subject in subjects])
    axes = directions.plane(points)
    places = [(float(x), float(y)) for x, y in directions.coordinates(points - points[0], axes).tolist()]

    def along(values: list[float]) -> list[float]:
        low, high = min(values), max(values)
        low, high = low - settings.margin * (high - low), high + settings.margin * (high - low)
        return [low + (high - low) * step / (settings.points - 1) for step in range(settings.points)]

    xs, ys = (along(list(values)) for values in zip(*places, strict=True))
    return LossSlice(subjects, points[0], axes, places, xs, ys, ("distance from 1 towards 2", "distance towards 3"))


def _empty(view: LossSlice) -> Surface:
    labels = list(dict.fromkeys(subject.checkpoint.label for subject in view.subjects))
    cosine = torch.nn.functional.cosine_similarity(view.axes[0], view.axes[1], dim=0)
    counts = (view.loss.images, view.loss.bn_images)
    classes = list(dict.fromkeys(subject.classes for subject in view.subjects))
    return Surface(", ".join(labels), view.names, view.xs, view.ys, cosine.item(), *counts, classes)


def _rows(view: LossSlice, surface: Surface, at_once: int) -> Iterator[Row]:
    """Compute and yield the missing rows of the surface."""
    missing = view.ys[len(surface.losses) :]
    bar = ProgressBar(f"points of {surface.title}", len(missing) * len(view.xs), "{:.4g}".format)
    with bar if missing else contextlib.nullcontext():
        for y in missing:
            row: Row = []
            for begin in range(0, len(view.xs), at_once):
                places = [(x, y) for x in view.xs[begin : begin + at_once]]
                row += [loss if math.isfinite(loss) else math.nan for loss in view.loss(view.at(places)).tolist()]
                bar.advance(len(places))
            yield row


def _mark(view: LossSlice, number: int, settings: Settings) -> MarkedCheckpoint:
    """Return a checkpoint's mark on the surface; warn if the surface differs from the checkpoint's own loss there."""
    subject, place = view.subjects[number], view.places[number]
    kind = "recomputed" if settings.bn == "recompute" else "stored"
    loss = view.loss(view.at([place])).item()
    difference = loss - subject.own_loss[kind]
    checkpoint = subject.checkpoint
    if not abs(difference) <= TOLERANCE * max(1.0, abs(loss)):
        text = "%s: the surface's loss at this checkpoint is %.7f, but the checkpoint's own loss is %.7f."
        log.warning(text, checkpoint.source, loss, subject.own_loss[kind])
    sharp = sharpness(subject, settings.sharpness_radius, list(range(settings.sharpness_seeds)))
    where = (checkpoint.source, checkpoint.label, checkpoint.step, *place)
    optimizer = checkpoint.config.optimizer.name
    return MarkedCheckpoint(*where, loss, subject.own_loss, difference, sharp, optimizer)


def sharpness(subject: LoadedCheckpoint, radius: float, seeds: list[int]) -> Sharpness:
    """Return the mean rise of the loss at the distance `radius` on both sides, along a random direction for each seed:

        S_d = (L(w + radius d) + L(w - radius d)) / 2 - L(w),   d filter-normalised, nats.

    This is the average-direction sharpness E_d[L(w + d) - L(w)] of Neyshabur et al. 2017 (arXiv:1706.08947) and
    Andriushchenko et al. 2023 (arXiv:2302.07011), with the filter-normalised directions of Li et al. 2018. It is
    therefore invariant to rescaling filters that are followed by a batch norm. Both sides are used so that a slope at
    w cancels out.
    """
    own = (subject.weights, subject.layout)
    base, values = subject.loss(subject.weights[None]).item(), []
    with ProgressBar(f"sharpness of {subject.checkpoint.label}", 2 * len(seeds), "{:.4g}".format) as bar:
        for seed in seeds:
            step = radius * directions.random_direction("filter", *own, seed, directions.OF_SHARPNESS)
            sides = [subject.loss((subject.weights + sign * step)[None]).item() for sign in (1, -1)]
            values.append(sum(sides) / 2 - base)
            bar.advance(2)
    return Sharpness(radius, seeds, values)


def _stations(view: LossSlice, trajectory: list[Checkpoint], world: World) -> list[TrajectoryPoint]:
    stations = []
    for checkpoint in trajectory:
        offset = (checkpoint.vector(view.subjects[0].layout, world.device) - view.origin)[None]
        x, y = directions.coordinates(offset, view.axes)[0].tolist()
        part = directions.captured(offset, view.axes).item()
        optimizer = checkpoint.config.optimizer.name
        stations.append(TrajectoryPoint(checkpoint.source, checkpoint.step, x, y, part, optimizer))
    return sorted(stations, key=lambda station: station.step)
