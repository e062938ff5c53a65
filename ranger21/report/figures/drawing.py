"""Draw a figure: panels side by side, a line per group with a band over its seeds, and one legend."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ranger21.report.figures.curves import Curve, average
from ranger21.report.groups.grouping import Group
from ranger21.report.groups.looks import looks
from ranger21.report.runs.run import DIVERGED, FINISHED, RUNNING, RecordedRun
from ranger21.system.files import replacing
from ranger21.tracking.colours import SHARED, Look

END_MARKS = {DIVERGED: "x", RUNNING: "o"}
GREY = "#555555"
STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "text.parse_math": False,  # keep dollar signs in labels; log axes therefore need `log_ticks`
}


@dataclass(frozen=True)
class FigurePanel:
    """One pair of axes of a figure. It shows either a curve of each run, or one number of each run as a point.

    Attributes:
        curve: returns the x and y values of a run's curve.
        log: whether the y axis is logarithmic.
        x: the label of the x axis.
        end: the upper limit of the x axis.
        figure: returns the number of a run; each group is then a column of points.
    """

    title: str
    curve: Callable[[RecordedRun], Curve] | None = None
    log: bool = False
    x: str = "epoch"
    end: float | None = None
    figure: Callable[[RecordedRun], float | None] | None = None


def write_figure(groups: Sequence[Group], panels: Sequence[FigurePanel], caption: str, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG, and return both paths. `path` has no suffix."""
    with matplotlib.rc_context(STYLE):
        return save(make_figure(groups, panels, caption), path)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and as a reproducible SVG, and return both paths. `path` has no suffix."""
    written = [path.with_name(f"{path.name}{suffix}") for suffix in (".png", ".svg")]
    with matplotlib.rc_context({"svg.hashsalt": "ranger21"}):
        for target in written:
            with replacing(target) as new:
                figure.savefig(new, dpi=150, metadata={"Date": None} if target.suffix == ".svg" else None)
    return written


@dataclass(frozen=True)
class ErrorBar:
    """A value with its interval, drawn in the row `row` and coloured by `kind`."""

    row: str
    kind: str
    value: float
    low: float | None
    high: float | None


def write_error_bars(
    bars: Sequence[ErrorBar],
    rows: Sequence[str],
    label: str,
    path: Path,
    zero: bool = True,
    colours: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write values with their intervals as PNG and SVG.

    Args:
        bars: the values; those of one row and several kinds are drawn one above the other.
        rows: the labels of the rows, from top to bottom.
        label: the label of the x axis.
        path: the path of the files, without suffix.
        zero: whether to draw a line at 0.
        colours: the colour of each row; None if the kinds have different colours instead.
    """
    kinds = list(dict.fromkeys(bar.kind for bar in bars))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.2 + 0.5 * len(rows)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        if zero:
            axes.axvline(0, color=GREY, linewidth=0.8)
        for index, kind in enumerate(kinds):
            mine = [bar for bar in bars if bar.kind == kind]
            heights = [rows.index(bar.row) + 0.2 * (index - (len(kinds) - 1) / 2) for bar in mine]
            ends = [[bar.value if end is None else end for end in (bar.low, bar.high)] for bar in mine]
            own = SHARED[index % len(SHARED)][0]
            shown = [colours[bar.row] if colours else own for bar in mine]
            low, high = zip(*ends, strict=True)
            axes.hlines(heights, low, high, colors=shown, linewidth=1.4)
            axes.scatter([bar.value for bar in mine], heights, 26, shown, marker="osD"[index % 3], zorder=3)
            axes.plot([], [], "osD"[index % 3], color=GREY if colours else own, label=kind, markersize=5)
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        figure.legend(loc="outside upper left", ncols=1, frameon=False)
        return save(figure, path)


def make_figure(groups: Sequence[Group], panels: Sequence[FigurePanel], caption: str) -> Figure:
    """Return a figure of panels side by side with one legend above and a caption below."""
    handles = _legend(groups)
    width = max(4.0 * len(panels), 5.6)
    texts = [str(handle.get_label()).splitlines() for handle in handles]
    entry = 0.65 + 0.07 * max(len(line) for text in texts for line in text)  # inches
    columns = max(1, min(len(handles), int(width / entry)))
    rows = math.ceil(len(handles) / columns)
    lines = sum(sorted(map(len, texts))[-rows:])
    figure = Figure(figsize=(width, 3.4 + 0.16 * lines + 0.04 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        _draw(axes, panel, groups)
    figure.supxlabel(_caption(groups, panels, caption), fontsize=8, color=GREY)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, handlelength=3.2)
    return figure


def _caption(groups: Sequence[Group], panels: Sequence[FigurePanel], more: str) -> str:
    """Return a caption that explains the lines, bands and points, followed by the figure's own remark `more`."""
    phrases = [more] if more else []
    curves = [panel for panel in panels if panel.curve is not None]
    if any(len(group.having(FINISHED)) > 1 for group in groups):
        if curves:
            phrases.insert(0, "line: mean over n finished runs, band: smallest to largest")
        if len(curves) < len(panels):
            phrases.insert(0, "points: finished runs, line: their mean")
    if any(panel.log for panel in curves) and any(group.having(DIVERGED) for group in groups):
        phrases.append("a diverging curve is cut off above the others")
    text = "; ".join(phrases)
    return textwrap.fill(f"{text[:1].upper()}{text[1:]}.", 55 * len(panels)) if text else ""


def _draw(axes: Axes, panel: FigurePanel, groups: Sequence[Group]) -> None:
    """Draw all groups into one panel."""
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.grid(True, axis="y")
    if panel.log:
        axes.set_yscale("log", nonpositive="mask")
    if panel.curve is not None:
        _draw_curves(axes, panel.curve, panel.log, groups)
        axes.set_xlim(0, panel.end)
    elif panel.figure is not None:
        _draw_points(axes, panel.figure, groups)
    if not axes.has_data():
        axes.text(0.5, 0.5, "nothing logged here", transform=axes.transAxes, ha="center", color=GREY)
        for minor in (False, True):
            axes.set_yticks([], minor=minor)
    elif panel.log:
        log_ticks(axes.yaxis)


def _draw_curves(axes: Axes, curve: Callable[[RecordedRun], Curve], log: bool, groups: Sequence[Group]) -> None:
    """Draw means and bands, then the runs that are not averaged."""
    drawn = list(zip(groups, looks(groups), strict=True))
    for group, look in drawn:
        _draw_mean(axes, [curve(run) for run in group.having(FINISHED)], look)
        for run in group.having(RUNNING):
            _draw_single(axes, curve(run), look, RUNNING)
    top = axes.get_ylim()[1] if log and axes.has_data() else math.inf
    for group, look in drawn:
        for run in group.having(DIVERGED):
            _draw_single(axes, curve(run), look, DIVERGED, top)


def _draw_points(axes: Axes, figure: Callable[[RecordedRun], float | None], groups: Sequence[Group]) -> None:
    """Draw the number of every finished run as a point, and a line at the mean of each group."""
    for index, (group, look) in enumerate(zip(groups, looks(groups), strict=True)):
        values = [value for run in group.having(FINISHED) if (value := figure(run)) is not None]
        if values:
            axes.plot([index] * len(values), values, "o", color=look.light, alpha=0.6, markersize=5)
            axes.plot([index - 0.3, index + 0.3], [np.mean(values)] * 2, color=look.light, linewidth=2)
    axes.set_xticks([])
    axes.set_xlim(-0.6, len(groups) - 0.4)


def _draw_mean(axes: Axes, curves: Sequence[Curve], look: Look) -> None:
    """Draw the mean of the finished runs and, if there are several, their range as a band."""
    epochs, mean, low, high = average(curves)
    if not len(epochs):
        return
    single = "." if len(epochs) == 1 else ""
    axes.plot(epochs, mean, **line_style(look), marker=single)
    if len(curves) > 1:
        axes.fill_between(epochs, low, high, color=look.light, alpha=0.18, linewidth=0)


def _draw_single(axes: Axes, curve: Curve, look: Look, status: str, top: float = math.inf) -> None:
    """Draw a run that is not averaged as a thin line with a mark at its end, cut off where it stays above `top`."""
    epochs, values = curve
    if not len(epochs):
        return
    top = max(top, values[0])
    end = int(np.flatnonzero(values <= top)[-1]) + 2
    epochs, values = epochs[:end], np.minimum(values[:end], top)
    mark: dict[str, Any] = {"markersize": 6, "markerfacecolor": "white", "markeredgewidth": 1.6, "zorder": 5}
    axes.plot(epochs, values, **line_style(look) | {"linewidth": 0.8})
    axes.plot(epochs[-1:], values[-1:], END_MARKS[status], color=look.light, clip_on=False, **mark)


def log_ticks(axis: Any) -> None:
    """Set plain numbers as ticks of a logarithmic axis, enough of them even for less than a decade."""
    low, high = axis.get_view_interval()
    if high / low < 4:
        axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0) if high / low < 20 else (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
        axis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.set_minor_locator(ticker.NullLocator())


def _legend(groups: Sequence[Group]) -> list[Line2D]:
    """Return a legend entry for each group, with its n, and for each kind of mark that occurs."""
    handles = []
    for group, look in zip(groups, looks(groups), strict=True):
        lost = f", {len(group.having(DIVERGED))} diverged" if group.having(DIVERGED) else ""
        text = textwrap.fill(f"{group.label} (n = {len(group.having(FINISHED))}{lost})", 44)
        handles.append(Line2D([], [], **line_style(look), label=text))
    for status, text in ((DIVERGED, "diverged run"), (RUNNING, "unfinished run")):
        if any(group.having(status) for group in groups):
            mark = Line2D([], [], color=GREY, linewidth=0.8, marker=END_MARKS[status], label=text)
            mark.set(markersize=6, markerfacecolor="white", markeredgewidth=1.6)
            handles.append(mark)
    return handles


def line_style(look: Look) -> dict[str, Any]:
    """Return matplotlib's arguments for a line. Wider lines are drawn above others."""
    return {
        "color": look.light,
        "linestyle": (0, look.dash) if look.dash else "-",
        "linewidth": look.width,
        "zorder": 2 + look.width / 10,
    }
