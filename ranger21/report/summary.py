"""Each group's figures over its finished runs, and what can be said of each pair of groups."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ranger21.report.equivalence import margin_of
from ranger21.report.groups import Group
from ranger21.report.resolution import quantum
from ranger21.report.runs import FINISHED, Run
from ranger21.report.statistics import Estimate, Pair, all_pairs, by_seed, estimate
from ranger21.report.ttests import Seed

Figure = Callable[[Run], float | None]  # a number of a run, None where it has none


@dataclass(frozen=True)
class Row:
    """One group's figures over the seeds of its finished runs; None where no finished run has a value."""

    group: Group
    final_top1: Estimate | None  # per cent
    best_top1: Estimate | None  # per cent
    best_epoch: Estimate | None  # epochs
    final_top5: Estimate | None  # per cent
    final_loss: Estimate | None  # nats, without label smoothing
    time: Estimate | None  # seconds
    images_per_s: Estimate | None

    @property
    def n(self) -> int:
        """How many seeds have finished."""
        return len(seeds(self.group.runs, lambda run: 0.0))


def summarise(groups: Iterable[Group]) -> list[Row]:
    """A row a group, best final top-1 first, groups without a finished run last."""
    rows = [_row(group) for group in groups]
    return sorted(rows, key=lambda row: -row.final_top1.mean if row.final_top1 else float("inf"))


def top1_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Every pair of groups by final top-1 (points), the better one first, judged with the margin of the runs."""
    found = {row.group.label: seeds(row.group.runs, final_top1) for row in rows}
    runs = [run for row in rows for run in row.group.runs]
    return all_pairs(found, quantum=quantum(runs), margin=margin_of(runs))


def loss_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Every pair of groups by final loss, in nats. No margin is fixed for losses, so none are equivalent."""
    found = {row.group.label: seeds(row.group.runs, lambda run: run.final("val/loss")) for row in rows}
    return all_pairs(found, higher_is_better=False)


def seeds(runs: Iterable[Run], figure: Figure) -> dict[Seed, float]:
    """A figure of the finished runs by their seeds, the mean where a seed was run more than once.

    A run without a seed counts as one of its own, which no other run shares.
    """
    finished = [run for run in runs if run.status == FINISHED]
    known = [(run, value) for run in finished if (value := figure(run)) is not None]
    return by_seed((seed_of(run), value) for run, value in known)


def seed_of(run: Run) -> Seed:
    """A run's seed; a number of its own where it has none."""
    return -1 - zlib.crc32(str(run.path).encode()) if run.seed is None else run.seed


def final_top1(run: Run) -> float | None:
    """The last validation's top-1, in per cent."""
    return run.final("val/acc1")


def best(run: Run) -> tuple[float, float] | tuple[None, None]:
    """The run's highest validation top-1 (per cent) and the first epoch that reached it."""
    epochs, values = run.series("val/acc1")
    if not len(values):
        return None, None
    return float(values.max()), float(epochs[values.argmax()])


def _row(group: Group) -> Row:
    """One group's figures."""

    def over(figure: Figure, step: float = 0.0) -> Estimate | None:
        return estimate(seeds(group.runs, figure).values(), quantum=step)

    step = quantum(group.runs)

    return Row(
        group=group,
        final_top1=over(final_top1, step),
        best_top1=over(lambda run: best(run)[0], step),
        best_epoch=over(lambda run: best(run)[1]),
        final_top5=over(lambda run: run.final("val/acc5"), step),
        final_loss=over(lambda run: run.final("val/loss")),
        time=over(lambda run: run.last("time")),
        images_per_s=over(lambda run: _median(run, "perf/images_per_s")),
    )


def _median(run: Run, key: str) -> float | None:
    """The median of what a run logged under `key`."""
    values = run.series(key)[1]
    return float(np.median(values)) if len(values) else None
