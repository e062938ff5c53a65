"""Each group's figures over its finished runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from ranger21.report.groups import Group
from ranger21.report.runs import FINISHED, Run


@dataclass(frozen=True)
class Stat:
    """Mean and sample standard deviation (None for one value) of n values, in the unit of the values."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One group's figures over its finished runs; None where no finished run has a value."""

    group: Group
    final_top1: Stat | None  # per cent
    best_top1: Stat | None  # per cent
    best_epoch: Stat | None  # epochs
    final_loss: Stat | None  # nats
    time: Stat | None  # seconds
    images_per_s: Stat | None

    @property
    def n(self) -> int:
        """How many runs have finished."""
        return len(self.group.having(FINISHED))


def summarise(groups: Iterable[Group]) -> list[Row]:
    """A row a group, best final top-1 first, groups without a finished run last."""
    rows = [_row(group) for group in groups]
    return sorted(rows, key=lambda row: -row.final_top1.mean if row.final_top1 else float("inf"))


def stat(values: Iterable[float | None]) -> Stat | None:
    """Mean and sample standard deviation of the values that exist."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Stat(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


def best(run: Run) -> tuple[float, float] | tuple[None, None]:
    """The run's highest validation top-1 (per cent) and the first epoch that reached it."""
    epochs, values = run.series("val/acc1")
    if not len(values):
        return None, None
    return float(values.max()), float(epochs[values.argmax()])


def _row(group: Group) -> Row:
    """One group's figures."""
    runs = group.having(FINISHED)
    return Row(
        group=group,
        final_top1=stat(run.last("val/acc1") for run in runs),
        best_top1=stat(best(run)[0] for run in runs),
        best_epoch=stat(best(run)[1] for run in runs),
        final_loss=stat(run.last("val/loss") for run in runs),
        time=stat(run.last("time") for run in runs),
        images_per_s=stat(_median(run, "perf/images_per_s") for run in runs),
    )


def _median(run: Run, key: str) -> float | None:
    """The median of what a run logged under `key`."""
    values = run.series(key)[1]
    return float(statistics.median(values)) if len(values) else None
