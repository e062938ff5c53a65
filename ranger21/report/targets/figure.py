"""The figure of time to target: the share of runs that has reached it, against steps."""

from __future__ import annotations

from pathlib import Path

from ranger21.report.figures.stairs import Stair, Stairs, write_stairs
from ranger21.report.groups.comparisons import Comparison
from ranger21.report.targets.table import PICTURE
from ranger21.report.targets.targets import at_target, targets_of

CAPTION = (
    "Share of all runs of a group (Kaplan and Meier); a run that ended or diverged below the target never reached it."
)
MARGIN = 1.04  # of the axis beyond the last step


def write_targets_figure(comparison: Comparison, out: Path) -> list[Path]:
    """Write a panel for each target as PNG and SVG into `out`; nothing without targets."""
    end = max((float(run.metrics.steps[-1]) for run in comparison.runs if len(run.metrics.steps)), default=0.0)
    panels = [
        Stairs(f"Top-1 of {target:g} %", _lines(comparison, target), "steps", MARGIN * end)
        for target in targets_of(comparison)
    ]
    return write_stairs(panels, "share that reached it", CAPTION, out / PICTURE) if panels and end else []


def _lines(comparison: Comparison, target: float) -> list[Stair]:
    """A line for each group, in the colour that it has in every figure."""
    places = {group.label: index for index, group in enumerate(comparison.groups)}
    lines = []
    for row in sorted(at_target(comparison, target), key=lambda row: places[row.group.label]):
        if arrivals := row.arrivals("steps"):
            times, share, _, _ = arrivals.curve
            label = f"{row.group.label} (n = {arrivals.n})"
            lines.append(Stair(label, places[row.group.label], times, share, open=bool(arrivals.waiting)))
    return lines
