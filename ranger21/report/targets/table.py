"""Write targets.md, targets.csv and the page's section: how often and when each group reached each target."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.page.tables import html_table
from ranger21.report.statistics.proportions import share_interval
from ranger21.report.statistics.survival import ENOUGH_RUNS, Median
from ranger21.report.tables.table import time_unit
from ranger21.report.tables.text import create, escaped, table_lines
from ranger21.report.targets.targets import (
    MEASURES,
    GroupAtTarget,
    at_target,
    not_asked,
    run_at_target,
    targets_of,
    validation_gap,
)
from ranger21.system.wording import defused, first_few
from ranger21.tracking.splits import SAID

PICTURE = "time_to_target"
HEAD = f"""# Time to target

How long runs take to reach a top-1 accuracy that their own configuration fixed before they began (`protocol.targets`).

- A run reaches a target at its first validation at or above it. A run that finished or diverged below the target counts
  as never reaching it. A run that has not ended counts up to its last validation (Kaplan and Meier's estimate).
- If a group has several runs with the same seed, the slowest counts.
- The share of runs that reached the target has Clopper and Pearson's 95 % interval. The median is over all runs,
  including those that never reach the target; its interval (Brookmeyer and Crowley) needs {ENOUGH_RUNS} runs.
- Times depend on the machines, which may have been shared with other jobs: steps and images are more reliable."""


def markdown(comparisons: Sequence[GroupComparison]) -> str:
    """Return the text of targets.md. All comparisons have targets."""
    parts = [HEAD]
    for comparison in comparisons:
        parts.append(f"## {escaped(comparison.title)}")
        for target in targets_of(comparison):
            heads, cells = table(at_target(comparison, target))
            parts += [f"Top-1 of {target:g} %:", "\n".join(table_lines(heads, cells, right=range(1, len(heads))))]
        parts.append("\n".join(f"- {escaped(note)}" for note in notes(comparison)))
    return "\n\n".join(parts) + "\n"


def section(comparison: GroupComparison) -> tuple[str, str]:
    """Return a heading and the tables of a comparison as HTML."""
    parts = []
    for target in targets_of(comparison):
        heads, cells = table(at_target(comparison, target))
        rows = [[escape(cell) for cell in row] for row in cells]
        parts += [f"<h3>Top-1 of {target:g} %</h3>", html_table(map(escape, heads), rows, "targets")]
    if parts:
        text = "share of runs that have reached the target, against steps"
        link = f'<a href="{escape(comparison.slug)}/{PICTURE}.svg">{text}</a>'
        parts.append(f"<p>Figure: {link}</p>")
    said = "".join(f"<li>{escape(note)}</li>" for note in notes(comparison))
    return f"Time to target: {comparison.title}", "\n".join([*parts, f"<ul>{said}</ul>"])


def table(rows: Sequence[GroupAtTarget]) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells, with one row per group."""
    seconds = [c.at["seconds"] for row in rows for c in row.runs if c.state == "reached" and "seconds" in c.at]
    unit, scale = time_unit(max(seconds, default=0.0))
    heads = [
        "group",
        "n",
        "reached",
        "95 % interval",
        "not yet",
        "median steps",
        "median images",
        f"median time ({unit})",
    ]
    return heads, [
        [
            row.group.label,
            str(len(row.runs)),
            f"{row.having('reached')} of {len(row.runs)}",
            _share(row),
            str(row.having("not yet")),
            _median(row, "steps"),
            _median(row, "images"),
            _median(row, "seconds", scale, digits=1),
        ]
        for row in rows
    ]


def notes(comparison: GroupComparison) -> list[str]:
    """Return the sentences below the tables: which images were validated on, how often, and what is left out."""
    splits = sorted({SAID[run.watched] for run in comparison.runs})
    said = [f"Top-1 is measured on {' or '.join(splits)}."]
    widest = {group.label: max(map(validation_gap, group.runs), default=0.0) for group in comparison.groups}
    for steps in sorted(set(widest.values()) - {0.0}):
        names = first_few([name for name, gap in widest.items() if gap == steps])
        every = "at every step" if steps == 1 else f"every {steps:,.0f} steps"
        said.append(f"Validated {every}, which limits the resolution of these times: {names}.")
    for group in comparison.groups:
        for run in group.runs:
            if run_at_target(run, 0.0) is None:
                said.append(f"{group.label}, seed {run.seed}: this run logged no validation and is left out.")
    return said + not_asked(comparison)


def write_csv(comparisons: Sequence[GroupComparison], path: Path) -> None:
    """Write the tables with full precision. `inf` stands for never, an empty cell for unknown."""
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
                    writer.writerow([*names, len(row.runs), *counts, *_interval(row), *figures])


def median_of(row: GroupAtTarget, measure: str) -> Median | None:
    """Return the median of a measure; None if it was not logged."""
    arrivals = row.arrivals(measure)
    return arrivals.median() if arrivals else None


def _interval(row: GroupAtTarget) -> tuple[float | None, float | None]:
    """Return the interval of the share that reached the target; no interval while some runs still may reach it."""
    return (None, None) if row.having("not yet") else share_interval(row.having("reached"), len(row.runs))


def _share(row: GroupAtTarget) -> str:
    low, high = _interval(row)
    return "–" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f} %"


def _median(row: GroupAtTarget, measure: str, scale: float = 1.0, digits: int = 0) -> str:
    """Return `1,240 (1,180 to 1,300)`, or `(1,180 or more)`; no interval with few runs, and a dash if unknown."""
    median = median_of(row, measure)
    if median is None or median.value is None:
        return "–"
    value, low, high = (_time(end, scale, digits) for end in (median.value, median.low, median.high))
    if median.low is None or median.high is None or math.isinf(median.low):
        return value
    return f"{value} ({low} or more)" if math.isinf(median.high) else f"{value} ({low} to {high})"


def _time(value: float | None, scale: float, digits: int) -> str:
    return "never" if value is None or math.isinf(value) else f"{value / scale:,.{digits}f}"
