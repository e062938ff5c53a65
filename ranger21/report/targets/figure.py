"""Draw time to target: the share of runs that have reached a target, against steps."""

from __future__ import annotations

from pathlib import Path

from ranger21.report.figures.stairs import StepLine, StepPanel, write_stairs
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.looks import looks
from ranger21.report.targets.table import PICTURE
from ranger21.report.targets.targets import at_target, targets_of

CAPTION = (
    "Share of all runs of a group (Kaplan and Meier). Runs that ended or diverged below the target count as never "
    "reaching it."
)
MARGIN = 1.04  # the end of the axis, relative to the last step


def write_targets_figure(comparison: GroupComparison, out: Path) -> list[Path]:
    """Write a figure with one panel per target as PNG and SVG into `out`; write nothing without targets."""
    end = max((float(run.metrics.steps[-1]) for run in comparison.runs if len(run.metrics.steps)), default=0.0)
    panels = [
        StepPanel(f"Top-1 of {target:g} %", _lines(comparison, target), "steps", MARGIN * end)
        for target in targets_of(comparison)
    ]
    return write_stairs(panels, "share of runs", CAPTION, out / PICTURE) if panels and end else []


def _lines(comparison: GroupComparison, target: float) -> list[StepLine]:
    """Return a line for each group, in the group's colour of all other figures."""
    own = dict(zip([group.label for group in comparison.groups], looks(comparison.groups), strict=True))
    lines = []
    for row in at_target(comparison, target):
        if arrivals := row.arrivals("steps"):
            times, share, _, _ = arrivals.curve
            label = f"{row.group.label} (n = {arrivals.n})"
            lines.append(StepLine(label, own[row.group.label], times, share, open=bool(arrivals.waiting)))
    return lines
