"""targets.md, targets.csv and the page's section: who reached which target, how often, and when."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ranger21.report.groups.comparisons import Comparison
from ranger21.report.page.tables import html_table
from ranger21.report.statistics.proportions import share_interval
from ranger21.report.statistics.survival import ENOUGH_RUNS, Median
from ranger21.report.tables.table import time_unit
from ranger21.report.tables.text import create, escaped, table_lines
from ranger21.report.targets.targets import (
    MEASURES,
    GroupAtTarget,
    at_target,
    course,
    not_asked,
    targets_of,
    validation_gap,
)
from ranger21.system.wording import defused, first_few
from ranger21.tracking.splits import SAID

PICTURE = "time_to_target"
HEAD = f"""# Time to target

When a run's top-1 first was as high as a target that stood in its own config (`protocol.targets`) before it began.

- Reached is a target at the first validation at or above it. A run that finished or diverged below it never reaches
  it, and counts; one that still runs counts up to its last validation (Kaplan and Meier's estimate).
- Of several runs of a group with one seed the slowest counts.
- The share that reached it has Clopper and Pearson's 95 % interval. The median is of the times of all runs, with those
  that never reach it; its interval (Brookmeyer and Crowley's) needs {ENOUGH_RUNS} runs.
- Seconds are of the machines that the runs had, maybe shared with other jobs: trust steps and images."""


def markdown(comparisons: Sequence[Comparison]) -> str:
    """The whole of targets.md, of the comparisons that have targets."""
    parts = [HEAD]
    for comparison in comparisons:
        parts.append(f"## {escaped(comparison.title)}")
        for target in targets_of(comparison):
            heads, cells = table(at_target(comparison, target))
            parts += [f"Top-1 of {target:g} %:", "\n".join(table_lines(heads, cells, right=range(1, len(heads))))]
        parts.append("\n".join(f"- {escaped(note)}" for note in notes(comparison)))
    return "\n\n".join(parts) + "\n"


def section(comparison: Comparison) -> tuple[str, str]:
    """A heading, and the tables of a comparison as HTML."""
    parts = []
    for target in targets_of(comparison):
        heads, cells = table(at_target(comparison, target))
        rows = [[escape(cell) for cell in row] for row in cells]
        parts += [f"<h3>Top-1 of {target:g} %</h3>", html_table(map(escape, heads), rows, "targets")]
    if parts:
        link = f'<a href="{escape(comparison.slug)}/{PICTURE}.svg">the share of runs that reached it, against steps</a>'
        parts.append(f"<p>Figure: {link}</p>")
    said = "".join(f"<li>{escape(note)}</li>" for note in notes(comparison))
    return f"Time to target: {comparison.title}", "\n".join([*parts, f"<ul>{said}</ul>"])


def table(rows: Sequence[GroupAtTarget]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, a row each group."""
    seconds = [c.at["seconds"] for row in rows for c in row.courses if c.state == "reached" and "seconds" in c.at]
    unit, scale = time_unit(max(seconds, default=0.0))
    heads = [
        "group",
        "n",
        "reached it",
        "95 % interval",
        "not yet",
        "median of steps",
        "of images",
        f"of time ({unit})",
    ]
    return heads, [
        [
            row.group.label,
            str(len(row.courses)),
            f"{row.having('reached')} of {len(row.courses)}",
            _share(row),
            str(row.having("not yet")),
            _median(row, "steps"),
            _median(row, "images"),
            _median(row, "seconds", scale, digits=1),
        ]
        for row in rows
    ]


def notes(comparison: Comparison) -> list[str]:
    """What belongs beneath the tables: what was validated on, how often, and what is left out."""
    splits = sorted({SAID[run.watched] for run in comparison.runs})
    said = [f"Top-1 is that on {' or '.join(splits)}."]
    widest = {group.label: max(map(validation_gap, group.runs), default=0.0) for group in comparison.groups}
    for steps in sorted(set(widest.values()) - {0.0}):
        names = first_few([name for name, gap in widest.items() if gap == steps])
        said.append(f"Validated every {steps:,.0f} steps, so no time is finer: {names}.")
    for group in comparison.groups:
        for run in group.runs:
            if course(run, 0.0) is None:
                said.append(f"{group.label}, seed {run.seed}: it logged no validation, and does not count.")
    return said + not_asked(comparison)


def write_csv(comparisons: Sequence[Comparison], path: Path) -> None:
    """The tables with full precision: `inf` is never, an empty cell is not known."""
    with create(path) as file:
        writer = csv.writer(file)
        head = ["comparison", "target_percent", "group", "n", "reached", "never", "not_yet", "share_low", "share_high"]
        ends = ("median", "low", "high")
        writer.writerow(head + [f"{measure}_{end}" for measure in MEASURES for end in ends])
        for comparison in comparisons:
            for target in targets_of(comparison):
                for row in at_target(comparison, target):
                    counts = [row.having(state) for state in ("reached", "never", "not yet")]
                    medians = [median_of(row, measure) for measure in MEASURES]
                    figures = [getattr(median, end, None) for median in medians for end in ("value", "low", "high")]
                    names = [defused(comparison.title), f"{target:g}", defused(row.group.label)]
                    writer.writerow([*names, len(row.courses), *counts, *_interval(row), *figures])


def median_of(row: GroupAtTarget, measure: str) -> Median | None:
    """The median of a measure; None where it was not logged."""
    arrivals = row.arrivals(measure)
    return arrivals.median() if arrivals else None


def _interval(row: GroupAtTarget) -> tuple[float | None, float | None]:
    """Of the share that reached the target, once all runs have ended or reached it."""
    return (None, None) if row.having("not yet") else share_interval(row.having("reached"), len(row.courses))


def _share(row: GroupAtTarget) -> str:
    low, high = _interval(row)
    return "–" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"


def _median(row: GroupAtTarget, measure: str, scale: float = 1.0, digits: int = 0) -> str:
    """`1,240 (1,180 to 1,300)`, or `(1,180 or more)`; the median alone with few runs, a dash where it is not known."""
    median = median_of(row, measure)
    if median is None or median.value is None:
        return "–"
    value, low, high = (_time(end, scale, digits) for end in (median.value, median.low, median.high))
    if median.low is None or median.high is None or math.isinf(median.low):
        return value
    return f"{value} ({low} or more)" if math.isinf(median.high) else f"{value} ({low} to {high})"


def _time(value: float | None, scale: float, digits: int) -> str:
    return "never" if value is None or math.isinf(value) else f"{value / scale:,.{digits}f}"
