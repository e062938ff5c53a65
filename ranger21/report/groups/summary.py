"""Summarise each group over the runs that have ended, including failed ones, and compare each pair of groups."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ranger21.report.groups.failures import Figure, ScoredFigure, failed, loss_of_failed, top1_of_failed, top5_of_failed
from ranger21.report.groups.grouping import Group
from ranger21.report.groups.resolution import quantum
from ranger21.report.runs.run import FINISHED, RecordedRun, Seed
from ranger21.report.statistics.equivalence import margin_of
from ranger21.report.statistics.pairs import Estimate, Pair, all_pairs, by_seed, estimate
from ranger21.report.statistics.proportions import Contrast, Proportion, contrasts
from ranger21.report.statistics.ranks import Outcomes


@dataclass(frozen=True)
class GroupSummary:
    """The figures of one group over its seeds; a figure is None if no run has a value.

    Failed runs count in the accuracies and the loss (see `failures`), which then have no interval. They do not count in
    best epoch, time and images/s.
    """

    group: Group
    failures: Proportion  # failed seeds among those that have ended
    final_top1: Estimate | None  # per cent
    finished_top1: Estimate | None  # per cent; finished runs only, which flatters a group with failed runs
    best_top1: Estimate | None  # per cent
    best_epoch: Estimate | None  # epochs
    final_top5: Estimate | None  # per cent
    final_loss: Estimate | None  # nats, without label smoothing
    time: Estimate | None  # seconds
    images_per_s: Estimate | None

    @property
    def n(self) -> int:
        """The number of seeds that have ended."""
        return self.failures.n


def summarise(groups: Iterable[Group]) -> list[GroupSummary]:
    """Summarise each group, best final top-1 first; groups without an ended run come last."""
    rows = [_row(group) for group in groups]
    return sorted(rows, key=lambda row: -row.final_top1.mean if row.final_top1 else float("inf"))


def top1_pairs(rows: Sequence[GroupSummary]) -> list[Pair]:
    """Compare every pair of groups by final top-1 (points), the better group first, with the runs' margin."""
    found = {row.group.label: seeds(row.group.runs, final_top1) for row in rows}
    runs = [run for row in rows for run in row.group.runs]
    return all_pairs(found, quantum=quantum(runs), margin=margin_of(runs))


def loss_pairs(rows: Sequence[GroupSummary]) -> list[Pair]:
    """Compare every pair of groups by final loss, in nats. There is no margin for losses, so no pair is equivalent."""
    found = {row.group.label: seeds(row.group.runs, final_loss) for row in rows}
    return all_pairs(found, higher_is_better=False)


def failure_pairs(rows: Sequence[GroupSummary]) -> list[tuple[str, str, Contrast]]:
    """Compare how often the groups of a pair fail, for every pair with a failed seed."""
    return contrasts({row.group.label: row.failures for row in rows})


def seeds(runs: Iterable[RecordedRun], figure: Figure) -> Outcomes:
    """Return a figure for each seed, over finished runs and, if it is a ScoredFigure, failed runs.

    If a seed was run more than once, its value is the mean; if one of these runs failed, the seed failed. If the figure
    is undefined for a failed run, the result is empty, since the other runs alone would flatter the group. A run
    without a seed counts as a seed of its own.
    """
    known: list[tuple[RecordedRun, float]] = []
    for run in runs:
        if run.status != FINISHED and not (isinstance(figure, ScoredFigure) and failed(run)):
            continue
        value = figure(run)
        if value is None and failed(run):
            return Outcomes({})
        known += [] if value is None else [(run, value)]
    lost = {seed_of(run) for run, _ in known if failed(run)}
    counted = [(seed_of(run), value) for run, value in known if failed(run) or seed_of(run) not in lost]
    return Outcomes(by_seed(counted), lost)


def mean_of(outcomes: Outcomes, step: float = 0.0) -> Estimate | None:
    """Return the mean over seeds. With failed seeds it has no interval, as such values are far from normal."""
    found = estimate(outcomes.values(), quantum=step)
    return replace(found, low=None, high=None) if found and outcomes.failed else found


def seed_of(run: RecordedRun) -> Seed:
    """Return a run's seed, or a unique negative number if it has none."""
    return -1 - zlib.crc32(str(run.path).encode()) if run.seed is None else run.seed


def best(run: RecordedRun) -> tuple[float, float] | tuple[None, None]:
    """Return the highest top-1 (per cent) of the validations during training, and the first epoch with it."""
    epochs, values = run.series(f"{run.watched}/acc1")
    if not len(values):
        return None, None
    return float(values.max()), float(epochs[values.argmax()])


final_top1 = ScoredFigure(lambda run: run.final("val/acc1"), top1_of_failed)  # per cent, at the last validation
last_top1 = ScoredFigure(lambda run: run.final(f"{run.watched}/acc1"), top1_of_failed)  # on the split of `best`
best_top1 = ScoredFigure(lambda run: best(run)[0], top1_of_failed)  # per cent, the highest of all validations
final_top5 = ScoredFigure(lambda run: run.final("val/acc5"), top5_of_failed)  # per cent, at the last validation
final_loss = ScoredFigure(lambda run: run.final("val/loss"), loss_of_failed)  # nats, without label smoothing


def _row(group: Group) -> GroupSummary:
    """Summarise one group."""

    def over(figure: Figure, step: float = 0.0) -> Estimate | None:
        return mean_of(seeds(group.runs, figure), step)

    step = quantum(group.runs)
    all_ended = seeds(group.runs, ScoredFigure(lambda run: 1.0, lambda run: 0.0))
    return GroupSummary(
        group=group,
        failures=Proportion(len(all_ended.failed), len(all_ended)),
        final_top1=over(final_top1, step),
        finished_top1=over(final_top1.of, step),
        best_top1=over(best_top1, quantum(group.runs, group.runs[0].watched)),
        best_epoch=over(lambda run: best(run)[1]),
        final_top5=over(final_top5, step),
        final_loss=over(final_loss),
        time=over(lambda run: run.last("time")),
        images_per_s=over(lambda run: _median(run, "perf/images_per_s")),
    )


def _median(run: RecordedRun, key: str) -> float | None:
    """Return the median of all values that a run logged under `key`."""
    values = run.series(key)[1]
    return float(np.median(values)) if len(values) else None
