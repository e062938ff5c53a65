"""The data for the page's scripts: groups, runs and their curves, thinned and with few digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ranger21.report.groups.grouping import Group
from ranger21.report.groups.looks import looks
from ranger21.report.page.sections import Tab
from ranger21.report.runs.metrics import Array
from ranger21.report.runs.run import RecordedRun
from ranger21.report.tables.table import MARKS, SAID
from ranger21.tracking.colours import Look
from ranger21.tracking.panels import AXES, PANELS, SCHEDULE, VALIDATION, WATCHED

POINTS = 600  # the most points per curve
POINTS_OF_ALL_RUNS = 30_000  # the most points per metric over all runs, so with more than 50 runs curves are coarser
DASH_UNIT = 1.8  # pixels per unit of the figures' dash patterns


def points_a_curve(runs: int) -> int:
    """Return the largest number of points of a curve on a page with this many runs."""
    return max(min(POINTS, POINTS_OF_ALL_RUNS // runs), 50)


def page_data(tabs: Sequence[Tab], reload: float | None = None) -> dict[str, Any]:
    """Return everything that the page draws, as JSON values. Curves are strings of numbers separated by spaces.

    Args:
        reload: the seconds after which the page loads its file again; None for never.
    """
    points = points_a_curve(sum(len(group.runs) for tab in tabs for group in tab.groups))
    made: list[dict[str, Any]] = [
        {"key": tab.key, "title": tab.title, "groups": _groups(tab.groups, points)} for tab in tabs
    ]
    logged = {metric for tab in made for group in tab["groups"] for run in group["runs"] for metric in run["curves"]}
    panels = [
        {
            "metric": panel.metric,
            "title": panel.title,
            "unit": panel.unit,
            "section": panel.section,
            "log": panel.log,
            "smooth": panel.section not in (VALIDATION, WATCHED, SCHEDULE),
        }
        for panel in PANELS
        if panel.metric in logged
    ]
    states = {status: {"mark": mark, "said": SAID[status]} for status, mark in MARKS.items()}
    return {"axes": AXES, "states": states, "panels": panels, "tabs": made, "reload": reload}


def thinned(values: Array, points: int) -> Array:
    """Return at most `points` means over equally many consecutive values (the last mean may cover fewer)."""
    size = -(-len(values) // points)
    if size <= 1:
        return values
    starts = np.arange(0, len(values), size)
    return np.add.reduceat(values, starts) / np.diff([*starts, len(values)])


def numbers(values: Array, digits: int) -> str:
    """Return the values as text with this many significant digits."""
    return " ".join(f"{value:.{digits}g}" for value in values)


def _groups(groups: Sequence[Group], points: int) -> list[dict[str, Any]]:
    return [_group(group, look, points) for group, look in zip(groups, looks(groups), strict=True)]


def _group(group: Group, look: Look, points: int) -> dict[str, Any]:
    """Return the data of a group. Its colours and dash pattern are those of the figures."""
    return {
        "label": group.label,
        "colour": look.light,
        "dark": look.dark,
        "dash": [round(DASH_UNIT * part, 1) for part in look.dash],
        "width": look.width,
        "runs": [_run(run, _name(run, group), points) for run in group.runs],
    }


def _name(run: RecordedRun, group: Group) -> str:
    """Return the name of a run's directory, or the whole path if another run of the group has the same name."""
    alike = sum(other.path.name == run.path.name for other in group.runs)
    return run.path.name if alike == 1 else str(run.path)


def _run(run: RecordedRun, name: str, points: int) -> dict[str, Any]:
    """Return the data of a run. Metrics logged at the same steps share their x values, the `grids`."""
    grids: list[dict[str, str]] = []
    places: dict[bytes, int] = {}
    curves: dict[str, tuple[int, str]] = {}
    for panel in PANELS:
        steps, values = run.series(panel.metric, x="step")
        if len(values):
            place = places.setdefault(steps.tobytes(), len(grids))
            if place == len(grids):
                grids.append(_grid(run, panel.metric, len(steps), points))
            curves[panel.metric] = (place, numbers(thinned(values, points), 5))
    return {"name": name, "seed": run.seed, "status": run.status, "grids": grids, "curves": curves}


def _grid(run: RecordedRun, metric: str, length: int, points: int) -> dict[str, str]:
    """Return the x values of a metric on each axis; axes that were not logged with every value are left out."""
    found = {axis: run.series(metric, x=axis)[0] for axis in AXES}
    return {
        axis: numbers(thinned(np.maximum.accumulate(values), points), 7)
        for axis, values in found.items()
        if len(values) == length
    }
