"""Draw shares that rise in steps, such as the share of runs that have reached a target."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ranger21.report.figures.drawing import GREY, STYLE, line_style, save
from ranger21.report.runs.metrics import Array
from ranger21.tracking.colours import Look

COLUMNS = 3  # panels side by side, at most


@dataclass(frozen=True)
class StepLine:
    """A step function that starts at 0 and jumps to `y[i]` at `x[i]`.

    Attributes:
        look: its colour and dash pattern.
        open: whether the line ends at its last x because its continuation is unknown, not at the end of the axes.
    """

    label: str
    look: Look
    x: Array
    y: Array
    open: bool = False


@dataclass(frozen=True)
class StepPanel:
    """One pair of axes with step functions, from `start` to `end`. `x` is the label of the x axis."""

    title: str
    lines: Sequence[StepLine]
    x: str
    end: float
    start: float = 0.0


def write_stairs(panels: Sequence[StepPanel], y: str, caption: str, path: Path) -> list[Path]:
    """Write panels with one legend above them as PNG and SVG, and return both paths. `path` has no suffix."""
    with matplotlib.rc_context(STYLE):
        return save(make_stairs(panels, y, caption), path)


def make_stairs(panels: Sequence[StepPanel], y: str, caption: str) -> Figure:
    """Return a figure of panels with one legend above and a caption below."""
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    legend = {line.label: line.look for panel in panels for line in panel.lines}
    handles = [
        Line2D([], [], **line_style(look), label=textwrap.fill(label, 44)) for label, look in sorted(legend.items())
    ]
    beside = max(1, min(len(handles), int(max(4.0 * columns, 5.6) / 2.4)))
    height = 3.2 * rows + 0.2 * math.ceil(len(handles) / beside) + 0.4
    figure = Figure(figsize=(max(4.0 * columns, 5.6), height), layout="constrained")
    FigureCanvasAgg(figure)
    places = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
    for axes, panel in zip(places, panels, strict=False):
        _draw(axes, panel)
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    figure.supylabel(y, fontsize=9.5)
    figure.supxlabel(textwrap.fill(caption, 55 * columns + 20), fontsize=8, color=GREY)
    figure.legend(handles=handles, loc="outside upper left", ncols=beside, frameon=False, handlelength=3.2)
    return figure


def _draw(axes: Axes, panel: StepPanel) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.grid(True, axis="y")
    for line in panel.lines:
        x, y = [panel.start, *line.x], [0.0, *line.y]
        if not line.open:
            x, y = [*x, panel.end], [*y, y[-1]]
        axes.step(x, y, where="post", **line_style(line.look))
    axes.set_xlim(panel.start, panel.end)
    axes.set_ylim(-0.02, 1.02)
