"""Estimates of the time and disk space that a grid of runs needs, from the runs so far or from measurements."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.data.disk_space import size_text
from ranger21.grid.jobs import PlannedRun
from ranger21.machine.record import Measured
from ranger21.records.directory import last_values
from ranger21.system.errors import UserError
from ranger21.system.reading import Unreadable, read_json
from ranger21.system.wording import first_few

AS_IF = 1000  # images/s, the example given where the speed is unknown
KEPT = 3  # checkpoints of a run: last, previous, best


@dataclass(frozen=True)
class GridCost:
    """Time and disk space of the runs still to do.

    Attributes:
        runs: their number.
        hours: summed over the runs; None if the speed of a model is unknown.
        unknown: models whose speed neither a run has logged nor anything has measured.
        bytes: of disk space; None if unknown.
        by: the measurements used where no run has logged its speed.
        images: number of images to train on.
        uncounted: datasets whose number of images is unknown; the hours are unknown as well then.
    """

    runs: int
    hours: float | None
    unknown: tuple[str, ...]
    bytes: int | None
    by: tuple[str, ...] = ()
    images: float = 0.0
    uncounted: tuple[str, ...] = ()

    def sentence(self, at_once: int, how: str = "") -> str:
        """Return the cost as a sentence.

        Args:
            at_once: number of runs at a time.
            how: what a user can do if the hours are unknown, as a clause.
        """
        if not self.runs:
            return "nothing to do"
        or_how = f"; {how}" if how else ""
        what = f"{self.runs} run{'s' if self.runs > 1 else ''} to do"
        disk = "disk space unknown" if self.bytes is None else f"about {size_text(self.bytes)} of disk space"
        if self.uncounted:
            names = " and ".join(self.uncounted)
            uncounted = f"as the number of images of {names} is known once a run has begun"
            return f"{what}, {disk}; hours unknown, {uncounted}{or_how}"
        if self.hours is None:
            names = first_few(self.unknown)
            hours = f"{_three(self.images / 1e6)} million images take {_three(self.images / AS_IF / 3600)} hours"
            none = f"no run of {names} has logged images/s yet ({hours} at {AS_IF:,} images/s)"
            return f"{what}, {disk}; hours unknown because {none}{or_how}"
        by = f"logged so far or measured ({first_few(self.by, 4, '; ')})" if self.by else "logged so far"
        return (
            f"{what}, about {_three(self.hours)} hours one after the other at the images/s {by}, "
            f"{_three(self.hours / max(1, at_once))} with {at_once} at once (times the devices per run), {disk}"
        )


def _three(number: float) -> str:
    """Return a number with three significant digits, in full: `1,540`, not `1.54e+03`."""
    return f"{float(f'{number:.3g}'):,.10g}"


@dataclass(frozen=True)
class RunNeeds:
    """What a run still needs, as far as it is known.

    Attributes:
        name: The model, with the optimizer if a machine.json may give the speed.
        data: The dataset.
        images: The number of images that it has yet to train on; None if unknown.
        speed: Images per second; None if unknown.
        checkpoint: The size of a checkpoint in bytes; None if unknown.
        machine: The measurement used if no run of the model has logged its speed.
    """

    name: str
    data: str
    images: float | None
    speed: float | None
    checkpoint: int | None
    machine: Measured | None


def cost(
    jobs: Sequence[PlannedRun],
    machines: Sequence[Measured] = (),
    left: Sequence[PlannedRun] | None = None,
    counted: Mapping[str, int] | None = None,
) -> GridCost:
    """Estimate the cost of the runs `left` (default: those that have not ended), without the part that they have done.

    The speed of a model is the median of its runs' last images/s, or else that of a measurement of the same training.

    Args:
        counted: numbers of training images besides those that runs have recorded, by `repr` of the data's settings.
    """
    logged = {job.directory: last_values(job.directory / "metrics.jsonl") for job in jobs}
    speeds: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    for job in jobs:
        if speed := logged[job.directory].get("perf/images_per_s"):
            speeds.setdefault(job.config.model.label, []).append(speed)
        if size := _checkpoint_size(job.directory):
            sizes.setdefault(job.config.model.label, []).append(size)
    counts = dict(counted or {})
    counts |= {repr(job.config.data): count for job in jobs if (count := train_images(job.directory))}
    needs = []
    for job in [job for job in jobs if not job.ended] if left is None else left:
        label, all_images = job.config.model.label, images(job, counts.get(repr(job.config.data)))
        machine = None if label in speeds else measured(job, machines)
        needs.append(
            RunNeeds(
                f"{label} with {job.config.optimizer.name}" if machines else label,
                f"data={job.config.data.name}",
                None if all_images is None else all_images * (1 - job.share(logged[job.directory])),
                statistics.median(speeds[label]) if label in speeds else machine.images_per_s if machine else None,
                max(sizes[label]) if label in sizes else machine.checkpoint_bytes if machine else None,
                machine,
            )
        )
    return _total(needs)


def _total(needs: Sequence[RunNeeds]) -> GridCost:
    uncounted = [need.data for need in needs if need.images is None]
    unknown = [need.name for need in needs if need.images is not None and not need.speed]
    hours = [need.images / need.speed / 3600 for need in needs if need.images is not None and need.speed]
    checkpoints = [need.checkpoint for need in needs if need.checkpoint]
    by = [f"{need.machine.source}: {need.machine.told()}" for need in needs if need.machine]
    return GridCost(
        len(needs),
        None if unknown or uncounted else sum(hours),
        tuple(dict.fromkeys(unknown)),
        KEPT * sum(checkpoints) if len(checkpoints) == len(needs) else None,
        tuple(dict.fromkeys(by)),
        sum(need.images for need in needs if need.images),
        tuple(dict.fromkeys(uncounted)),
    )


def measured(job: PlannedRun, machines: Sequence[Measured]) -> Measured | None:
    """Return the machine.json of a run's training; None if there is none. Raises a UserError if there are two."""
    found = [machine for machine in machines if machine.is_of(job.config)]
    if len(found) > 1:
        names = " and ".join(machine.source for machine in found)
        raise UserError(f"{names} measured the same training ({found[0].told()}; {found[1].told()}): give one of them.")
    return found[0] if found else None


def require_use(jobs: Sequence[PlannedRun], machines: Sequence[Measured]) -> None:
    """Raise a UserError for a machine.json that measured none of the runs' trainings."""
    for machine in machines:
        if any(machine.is_of(job.config) for job in jobs):
            continue
        nearest = min((machine.differences(job.config) for job in jobs), key=len)
        raise UserError(
            f"{machine.source} ({machine.told()}) measured none of these runs: the nearest has {first_few(nearest)}. "
            "Give a file that scripts/check_machine.py made with the overrides of these runs."
        )


def images(job: PlannedRun, same_data: int | None = None) -> float | None:
    """Return about how many images a run trains on; None if unknown.

    They are known from the run's settings of steps, else from its manifest, else from `same_data`, the number of
    training images of another run with the same data, else from the dataset.
    """
    config = job.config
    if config.trainer.steps is not None:
        return config.trainer.steps * config.data.batch_size
    of_epoch = train_images(job.directory) or same_data or config.data.epoch_images()
    return None if of_epoch is None else config.trainer.epochs * of_epoch


def train_images(directory: Path) -> int | None:
    """Return the number of training images in the manifest of a run; None if there is none."""
    try:
        return int(read_json(directory / "manifest.json", {"data": {"train_images": int}})["data"]["train_images"])
    except Unreadable:
        return None


def _checkpoint_size(directory: Path) -> int:
    try:
        return (directory / "checkpoints" / "last.pt").stat().st_size
    except OSError:
        return 0
