"""Draw the trials of a workload: top-1 against the learning rate, and the expected best of k trials."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ranger21.report.figures.drawing import GREY, STYLE, line_style, log_ticks, save
from ranger21.tracking.colours import look_of
from ranger21.tuning.best_of import BestOf

MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Point:
    """A trial in a figure: its learning rate, above 0, and its top-1 in per cent, which is chance if it failed."""

    lr: float
    top1: float
    failed: bool = False


def write_sensitivity(trials: Mapping[str, Sequence[Point]], y: str, path: Path) -> list[Path]:
    """Write a figure of top-1 against the learning rate for every optimizer, as PNG and SVG. `path` has no suffix."""

    def draw(axes: Axes) -> None:
        for index, (name, points) in enumerate(trials.items()):
            ends = [point for point in points if not point.failed]
            colour, marker = look_of(name).light, MARKERS[index % len(MARKERS)]
            axes.plot([p.lr for p in ends], [p.top1 for p in ends], marker, color=colour, alpha=0.75, markersize=5.5)
            lost = [point for point in points if point.failed]
            axes.plot([p.lr for p in lost], [p.top1 for p in lost], "x", color=colour, markersize=7)
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
        axes.set_xlabel("learning rate")

    handles = [
        Line2D([], [], color=look_of(name).light, marker=MARKERS[i % len(MARKERS)], linestyle="", label=name)
        for i, name in enumerate(trials)
    ]
    if any(point.failed for points in trials.values() for point in points):
        handles.append(Line2D([], [], color=GREY, marker="x", linestyle="", label="failed trial"))
    caption = "Each point is a trial. Other hyperparameters vary between trials, too."
    return _write(draw, handles, y, caption, path)


def write_best_of(
    curves: Mapping[str, Sequence[BestOf]], defaults: Mapping[str, float], y: str, path: Path
) -> list[Path]:
    """Write a figure of the expected best of k trials for every optimizer, with its defaults at k = 0."""

    def draw(axes: Axes) -> None:
        for name, curve in curves.items():
            counts = [best.k for best in curve]
            axes.plot(counts, [best.mean for best in curve], **line_style(look_of(name)))
            if name in defaults:
                mark: dict[str, Any] = {"markerfacecolor": "white", "markersize": 6, "clip_on": False}
                axes.plot([0], [defaults[name]], "o", color=look_of(name).light, **mark)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trials")

    handles = [Line2D([], [], **line_style(look_of(name)), label=name) for name in curves]
    if defaults:
        handles.append(Line2D([], [], color=GREY, linestyle="", marker="o", markerfacecolor="white", label="untuned"))
    caption = (
        "Line: the best result after this number of trials, averaged over all orders of the trials. "
        "At 0: untuned, the mean over seeds."
    )
    return _write(draw, handles, y, caption, path)


def _write(draw: Callable[[Axes], None], handles: Sequence[Line2D], y: str, caption: str, path: Path) -> list[Path]:
    """Write a figure of one pair of axes with a legend above and a caption below."""
    with matplotlib.rc_context(STYLE):
        columns = 3
        figure = Figure(figsize=(6.4, 3.9 + 0.2 * -(-len(handles) // columns)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        draw(axes)
        axes.set_ylabel(y)
        axes.grid(True, axis="y")
        figure.legend(handles=list(handles), loc="outside upper left", ncols=columns, frameon=False, handlelength=2.6)
        figure.supxlabel(textwrap.fill(caption, 90), fontsize=8, color=GREY)
        return save(figure, path)
