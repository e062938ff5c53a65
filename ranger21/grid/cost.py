"""What a grid will cost, from what its runs so far have shown; what nothing tells yet is said to be unknown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.config import FashionMNISTConfig
from ranger21.data.room import size_text
from ranger21.grid.jobs import Job
from ranger21.grid.progress import progress

IMAGENET_TRAIN = 1_281_167
KEPT = 3  # checkpoints of a run: last, previous, best


@dataclass(frozen=True)
class Cost:
    """Of the runs still to do. Hours are of one device; None where no run with the same model has shown its speed."""

    runs: int
    hours: float | None
    unknown: tuple[str, ...]  # models whose speed is not known
    bytes: int | None

    def sentence(self, at_once: int) -> str:
        """What it costs, for people."""
        disk = (
            f", about {size_text(self.bytes)} of disk" if self.bytes is not None else ", disk unknown until one has run"
        )
        if self.hours is None:
            names = ", ".join(self.unknown)
            return f"{self.runs} runs to do{disk}; hours unknown, as no run of {names} has logged its images/s yet"
        return (
            f"{self.runs} runs to do, about {self.hours:.3g} device hours by the images/s logged so far, "
            f"{self.hours / max(1, at_once):.3g} with {at_once} at once{disk}"
        )


def cost(jobs: Sequence[Job]) -> Cost:
    """The cost of the jobs that have not ended, what they have done already left out."""
    speeds: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    now = {job.directory: progress(job) for job in jobs}
    for job in jobs:
        if speed := now[job.directory].images_per_s:
            speeds.setdefault(job.config.model.label, []).append(speed)
        if size := _checkpoint_size(job.directory):
            sizes.setdefault(job.config.model.label, []).append(size)
    left = [job for job in jobs if not job.ended]
    models = dict.fromkeys(job.config.model.label for job in left)
    unknown = tuple(model for model in models if model not in speeds)
    hours = sum(
        images(job) * (1 - (now[job.directory].epoch or 0) / job.epochs)
        / statistics.median(speeds.get(job.config.model.label, [1.0])) / 3600
        for job in left
    )  # fmt: skip
    known = all(model in sizes for model in models)
    disk = sum(KEPT * max(sizes[job.config.model.label]) for job in left) if known else None
    return Cost(len(left), None if unknown else hours, unknown, disk)


def images(job: Job) -> float:
    """The images that a run trains on, as far as its configuration tells; ImageNet's count for folders."""
    if job.config.trainer.steps is not None:
        return job.config.trainer.steps * job.config.data.batch_size
    if isinstance(job.config.data, FashionMNISTConfig):
        return job.epochs * job.config.data.train_images
    return job.epochs * _train_images(job.directory, IMAGENET_TRAIN)


def _train_images(directory: Path, default: int) -> int:
    try:
        return int(json.loads((directory / "manifest.json").read_text())["data"]["train_images"])
    except (OSError, ValueError, KeyError, TypeError):
        return default


def _checkpoint_size(directory: Path) -> int:
    try:
        return (directory / "checkpoints" / "last.pt").stat().st_size
    except OSError:
        return 0
