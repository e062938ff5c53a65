"""What a grid will cost, from what its runs so far have shown; what nothing tells yet is said to be unknown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.config import FashionMNISTConfig, ImageFolderConfig
from ranger21.data.room import size_text
from ranger21.grid.jobs import Job
from ranger21.reading import Unreadable, read_json
from ranger21.records import last_values

IMAGENET_TRAIN = 1_281_167
KEPT = 3  # checkpoints of a run: last, previous, best


@dataclass(frozen=True)
class Cost:
    """Of the runs still to do. Hours are of runs; None where no run with the same model has shown its speed."""

    runs: int
    hours: float | None
    unknown: tuple[str, ...]  # models whose speed is not known
    bytes: int | None

    def sentence(self, at_once: int) -> str:
        """What it costs, for people."""
        if not self.runs:
            return "nothing to do"
        what = f"{self.runs} run{'s' if self.runs > 1 else ''} to do"
        disk = "disk unknown until one has run" if self.bytes is None else f"about {size_text(self.bytes)} of disk"
        if self.hours is None:
            names = ", ".join(self.unknown)
            return f"{what}, {disk}; hours unknown, as no run of {names} has logged its images/s yet"
        return (
            f"{what}, about {self.hours:.3g} hours one after the other by the images/s logged so "
            f"far, {self.hours / max(1, at_once):.3g} with {at_once} at once (times the devices of a run), {disk}"
        )


def cost(jobs: Sequence[Job]) -> Cost:
    """The cost of the jobs that have not ended, what they have done already left out."""
    speeds: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    logged = {job.directory: last_values(job.directory / "metrics.jsonl") for job in jobs}
    for job in jobs:
        if speed := logged[job.directory].get("perf/images_per_s"):
            speeds.setdefault(job.config.model.label, []).append(speed)
        if size := _checkpoint_size(job.directory):
            sizes.setdefault(job.config.model.label, []).append(size)
    left = [job for job in jobs if not job.ended]
    models = dict.fromkeys(job.config.model.label for job in left)
    unknown = tuple(model for model in models if model not in speeds)
    disk = sum(KEPT * max(sizes[job.config.model.label]) for job in left) if sizes.keys() >= models.keys() else None
    hours = None
    if not unknown:
        rates = {model: statistics.median(speeds[model]) * 3600 for model in models}
        rest = [(job, images(job) * (1 - job.share(logged[job.directory]))) for job in left]
        hours = sum(count / rates[job.config.model.label] for job, count in rest)
    return Cost(len(left), hours, unknown, disk)


def images(job: Job) -> float:
    """The images that a run trains on: by its manifest, else by its configuration; ImageNet's count for folders."""
    config = job.config
    if config.trainer.steps is not None:
        return config.trainer.steps * config.data.batch_size
    if isinstance(config.data, FashionMNISTConfig):
        return config.trainer.epochs * config.data.train_images
    share = config.data.fraction if isinstance(config.data, ImageFolderConfig) else 1.0
    return config.trainer.epochs * _train_images(job.directory, round(IMAGENET_TRAIN * share))


def _train_images(directory: Path, default: int) -> int:
    try:
        return int(read_json(directory / "manifest.json", {"data": {"train_images": int}})["data"]["train_images"])
    except Unreadable:
        return default


def _checkpoint_size(directory: Path) -> int:
    try:
        return (directory / "checkpoints" / "last.pt").stat().st_size
    except OSError:
        return 0
