"""The comparison as figures: loss and accuracy against epochs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
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

from ranger21.report.curves import Curve, average, bin_width, binned
from ranger21.report.groups import Group
from ranger21.report.runs import DIVERGED, FINISHED, RUNNING, Run

# Okabe–Ito colours without yellow, which print loses; 7 colours and 5 dash patterns make 35 distinct lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (6, 1.6, 1.2, 1.6)), (0, (1.2, 1.2)), (0, (9, 2)))
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
}


@dataclass(frozen=True)
class Panel:
    """One pair of axes: its title, the curve that it takes of a run, and whether y is logarithmic."""

    title: str
    curve: Callable[[Run], Curve]
    log: bool


def write_figures(groups: Sequence[Group], out: Path) -> list[Path]:
    """Write loss.png, accuracy.png, and curves.png (the two side by side) and return their paths."""
    width = bin_width(groups)
    train = Panel("Training loss", lambda run: binned(run.series("train/loss"), width), True)
    loss = Panel("Validation loss", lambda run: run.series("val/loss"), True)
    top1 = Panel("Validation top-1 (%)", lambda run: run.series("val/acc1"), False)
    caption = f"training loss: means over bins of {width:g} epoch{'' if width == 1 else 's'}"
    paths = {"loss": (train, loss), "accuracy": (top1,), "curves": (train, loss, top1)}
    with matplotlib.rc_context(STYLE):
        for name, panels in paths.items():
            figure = make_figure(groups, panels, caption if train in panels else "")
            figure.savefig(out / f"{name}.png", dpi=150)
    return [out / f"{name}.png" for name in paths]


def make_figure(groups: Sequence[Group], panels: Sequence[Panel], caption: str) -> Figure:
    """A figure of panels side by side with one legend above and a caption beneath."""
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
    figure.supxlabel(_caption(groups, caption), fontsize=8, color=GREY)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False, handlelength=3.2)
    return figure


def _caption(groups: Sequence[Group], train: str) -> str:
    """What lines and bands are; `train` says how the training loss is averaged, empty where there is none."""
    phrases = [train] if train else []
    if any(len(group.having(FINISHED)) > 1 for group in groups):
        phrases.insert(0, "line: mean over n runs, band: smallest to largest")
    if train and any(group.having(DIVERGED) for group in groups):
        phrases.append("a diverging loss is cut off above the others")
    text = "; ".join(phrases)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _draw(axes: Axes, panel: Panel, groups: Sequence[Group]) -> None:
    """Draw every group: means and bands, then the runs that are not averaged."""
    axes.set_title(panel.title)
    axes.set_xlabel("epoch")
    axes.grid(True, axis="y")
    if panel.log:
        axes.set_yscale("log", nonpositive="mask")
    for index, group in enumerate(groups):
        _draw_mean(axes, [panel.curve(run) for run in group.having(FINISHED)], index)
        for run in group.having(RUNNING):
            _draw_single(axes, panel.curve(run), index, RUNNING)
    top = axes.get_ylim()[1] if panel.log and axes.has_data() else math.inf
    for index, group in enumerate(groups):
        for run in group.having(DIVERGED):
            _draw_single(axes, panel.curve(run), index, DIVERGED, top)
    if not axes.has_data():
        axes.text(0.5, 0.5, "nothing logged yet", transform=axes.transAxes, ha="center", color=GREY)
    elif panel.log:
        _log_ticks(axes)
    axes.set_xlim(left=0)


def _draw_mean(axes: Axes, curves: Sequence[Curve], index: int) -> None:
    """The mean of the finished runs and, for more than one, the band of their range."""
    epochs, mean, low, high = average(curves)
    if not len(epochs):
        return
    single = "." if len(epochs) == 1 else ""
    axes.plot(epochs, mean, color=_colour(index), linestyle=_dash(index), linewidth=1.7, marker=single)
    if len(curves) > 1:
        axes.fill_between(epochs, low, high, color=_colour(index), alpha=0.18, linewidth=0)


def _draw_single(axes: Axes, curve: Curve, index: int, status: str, top: float = math.inf) -> None:
    """One run that is not averaged: thin, its end marked. It ends where it rises beyond `top` for good."""
    epochs, values = curve
    if not len(epochs):
        return
    top = max(top, values[0])
    end = int(np.flatnonzero(values <= top)[-1]) + 2
    epochs, values = epochs[:end], np.minimum(values[:end], top)
    mark: dict[str, Any] = {"markersize": 6, "markerfacecolor": "white", "markeredgewidth": 1.6, "zorder": 5}
    axes.plot(epochs, values, color=_colour(index), linestyle=_dash(index), linewidth=0.8)
    axes.plot(epochs[-1:], values[-1:], END_MARKS[status], color=_colour(index), clip_on=False, **mark)


def _log_ticks(axes: Axes) -> None:
    """Plain numbers on a logarithmic axis, dense enough for less than a decade."""
    low, high = axes.get_ylim()
    if high / low < 4:
        axes.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0) if high / low < 20 else (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def _legend(groups: Sequence[Group]) -> list[Line2D]:
    """An entry a group with its n, and one for each mark that occurs."""
    handles = []
    for index, group in enumerate(groups):
        text = textwrap.fill(f"{group.label} (n = {len(group.having(FINISHED))})", 44)
        handles.append(Line2D([], [], color=_colour(index), linestyle=_dash(index), linewidth=1.7, label=text))
    for status, text in ((DIVERGED, "diverged run"), (RUNNING, "unfinished run")):
        if any(group.having(status) for group in groups):
            mark = Line2D([], [], color=GREY, linewidth=0.8, marker=END_MARKS[status], label=text)
            mark.set(markersize=6, markerfacecolor="white", markeredgewidth=1.6)
            handles.append(mark)
    return handles


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _dash(index: int) -> Any:
    return DASHES[index % len(DASHES)]
