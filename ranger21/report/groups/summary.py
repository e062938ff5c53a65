"""Each group's figures over the runs that have ended, failed ones among them, and what can be said of each pair."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ranger21.report.groups.failures import Figure, Scored, failed, loss_of_failed, top1_of_failed, top5_of_failed
from ranger21.report.groups.grouping import Group
from ranger21.report.groups.resolution import quantum
from ranger21.report.runs.run import FINISHED, Run, Seed
from ranger21.report.statistics.equivalence import margin_of
from ranger21.report.statistics.pairs import Estimate, Pair, all_pairs, by_seed, estimate
from ranger21.report.statistics.proportions import Contrast, Share, contrasts
from ranger21.report.statistics.ranks import Outcomes


@dataclass(frozen=True)
class Row:
    """One group's figures over its seeds; None where no run has a value.

    A failed run counts in accuracies and the loss (see `failures`); where one did, they have no interval. It has no
    best epoch, time and images/s.
    """

    group: Group
    failures: Share  # seeds that failed, of those that have ended
    final_top1: Estimate | None  # per cent
    finished_top1: Estimate | None  # per cent; of finished runs alone, which flatters a group that lost runs
    best_top1: Estimate | None  # per cent
    best_epoch: Estimate | None  # epochs
    final_top5: Estimate | None  # per cent
    final_loss: Estimate | None  # nats, without label smoothing
    time: Estimate | None  # seconds
    images_per_s: Estimate | None

    @property
    def n(self) -> int:
        """How many seeds have ended."""
        return self.failures.n


def summarise(groups: Iterable[Group]) -> list[Row]:
    """A row a group, best final top-1 first, groups of which no run has ended last."""
    rows = [_row(group) for group in groups]
    return sorted(rows, key=lambda row: -row.final_top1.mean if row.final_top1 else float("inf"))


def top1_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Every pair of groups by final top-1 (points), the better one first, judged with the margin of the runs."""
    found = {row.group.label: seeds(row.group.runs, final_top1) for row in rows}
    runs = [run for row in rows for run in row.group.runs]
    return all_pairs(found, quantum=quantum(runs), margin=margin_of(runs))


def loss_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Every pair of groups by final loss, in nats. No margin is fixed for losses, so none are equivalent."""
    found = {row.group.label: seeds(row.group.runs, final_loss) for row in rows}
    return all_pairs(found, higher_is_better=False)


def failure_pairs(rows: Sequence[Row]) -> list[tuple[str, str, Contrast]]:
    """Every pair of groups one of which has a failed seed: which of them fails more often."""
    return contrasts({row.group.label: row.failures for row in rows})


def seeds(runs: Iterable[Run], figure: Figure) -> Outcomes:
    """A figure by seeds, the mean where a seed was run more than once; one of its runs failed, the seed did.

    Of finished runs, and if it is Scored of failed ones, too. There is none at all where a failed run has none: the
    others alone would flatter. A run without a seed counts as one of its own, which no other run shares.
    """
    known: list[tuple[Run, float]] = []
    for run in runs:
        if run.status != FINISHED and not (isinstance(figure, Scored) and failed(run)):
            continue
        value = figure(run)
        if value is None and failed(run):
            return Outcomes({})
        known += [] if value is None else [(run, value)]
    lost = {seed_of(run) for run, _ in known if failed(run)}
    counted = [(seed_of(run), value) for run, value in known if failed(run) or seed_of(run) not in lost]
    return Outcomes(by_seed(counted), lost)


def mean_of(outcomes: Outcomes, step: float = 0.0) -> Estimate | None:
    """The mean over seeds, failed ones among them; then without an interval: such values are far from normal."""
    found = estimate(outcomes.values(), quantum=step)
    return replace(found, low=None, high=None) if found and outcomes.failed else found


def seed_of(run: Run) -> Seed:
    """A run's seed; a number of its own where it has none."""
    return -1 - zlib.crc32(str(run.path).encode()) if run.seed is None else run.seed


def best(run: Run) -> tuple[float, float] | tuple[None, None]:
    """The highest top-1 (per cent) of the validations while it trained, and the first epoch that reached it."""
    epochs, values = run.series(f"{run.watched}/acc1")
    if not len(values):
        return None, None
    return float(values.max()), float(epochs[values.argmax()])


final_top1 = Scored(lambda run: run.final("val/acc1"), top1_of_failed)  # the last validation's, in per cent
last_top1 = Scored(lambda run: run.final(f"{run.watched}/acc1"), top1_of_failed)  # of the images that `best` is of
best_top1 = Scored(lambda run: best(run)[0], top1_of_failed)  # the highest validation's, in per cent
final_top5 = Scored(lambda run: run.final("val/acc5"), top5_of_failed)  # the last validation's, in per cent
final_loss = Scored(lambda run: run.final("val/loss"), loss_of_failed)  # nats, without label smoothing


def _row(group: Group) -> Row:
    """One group's figures."""

    def over(figure: Figure, step: float = 0.0) -> Estimate | None:
        return mean_of(seeds(group.runs, figure), step)

    step = quantum(group.runs)
    all_ended = seeds(group.runs, Scored(lambda run: 1.0, lambda run: 0.0))
    return Row(
        group=group,
        failures=Share(len(all_ended.failed), len(all_ended)),
        final_top1=over(final_top1, step),
        finished_top1=over(final_top1.of, step),
        best_top1=over(best_top1, quantum(group.runs, group.runs[0].watched)),
        best_epoch=over(lambda run: best(run)[1]),
        final_top5=over(final_top5, step),
        final_loss=over(final_loss),
        time=over(lambda run: run.last("time")),
        images_per_s=over(lambda run: _median(run, "perf/images_per_s")),
    )


def _median(run: Run, key: str) -> float | None:
    """The median of what a run logged under `key`."""
    values = run.series(key)[1]
    return float(np.median(values)) if len(values) else None
