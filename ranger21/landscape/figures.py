"""Figures of landscapes: contours and surfaces, side by side on one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from ranger21.landscape.record import Surface
from ranger21.report.figures.drawing import GREY, STYLE, save
from ranger21.report.runs.metrics import Array
from ranger21.tracking.colours import look_of

COLOURS = "viridis"
COLUMNS, LEVELS = 4, 24
INK = "#16213A"  # the outlines of paths and marks, which have their optimizers' colours
SEVERAL = (1, 1.5, 2, 3, 5, 7)  # ticks within each decade


class Scale:
    """Logarithmic colour scale and contour levels for the losses of all surfaces, up to `ceiling` times the lowest."""

    def __init__(self, surfaces: Sequence[Surface], ceiling: float) -> None:
        losses = np.concatenate([surface.heights().ravel() for surface in surfaces])
        losses = losses[np.isfinite(losses) & (losses > 0)]
        self.low = float(losses.min()) if len(losses) else 1.0
        self.high = float(min(losses.max(), self.low * ceiling)) if len(losses) else 10.0
        self.high = max(self.high, self.low * 1.001)  # a flat surface needs a range as well
        self.norm = LogNorm(self.low, self.high)
        self.levels = np.geomspace(self.low, self.high, LEVELS)
        decades = range(int(np.floor(np.log10(self.low))), int(np.ceil(np.log10(self.high))) + 1)
        ticks = [digit * 10.0**decade for decade in decades for digit in SEVERAL]
        self.ticks = [tick for tick in ticks if self.low <= tick <= self.high]

    def shown(self, surface: Surface) -> Array:
        """Return the losses clipped to the scale, with non-finite losses at the upper end."""
        return np.clip(np.nan_to_num(surface.heights(), nan=self.high, posinf=self.high), self.low, self.high)

    def bar(self, figure: Figure, panels: list[Any], **looks: Any) -> None:
        """Add the colour bar."""
        bar = figure.colorbar(ScalarMappable(self.norm, COLOURS), ax=panels, label="loss (nats)", pad=0.02, **looks)
        bar.ax.yaxis.set_major_locator(FixedLocator(self.ticks))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:.3g}"))


def write_figures(surfaces: Sequence[Surface], caption: str, out: Path, ceiling: float) -> list[Path]:
    """Write the contours and the surface, each as PNG and SVG, and return their paths."""
    scale, figures = Scale(surfaces, ceiling), {"contours": contour_figure, "surface": surface_figure}
    with matplotlib.rc_context(STYLE):
        return [path for name, draw in figures.items() for path in save(draw(surfaces, scale, caption), out / name)]


def _grid(surfaces: Sequence[Surface], side: float) -> tuple[Figure, int, int]:
    """Return an empty figure and its numbers of rows and columns of panels."""
    columns = min(COLUMNS, len(surfaces))
    rows = -(-len(surfaces) // columns)
    return Figure(figsize=(side * columns + 1.3, side * rows + 0.9), layout="constrained"), rows, columns


def contour_figure(surfaces: Sequence[Surface], scale: Scale, caption: str) -> Figure:
    figure, rows, columns = _grid(surfaces, 4.0)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(surfaces) :]:
        axes.set_axis_off()
    for axes, surface in zip(panels, surfaces, strict=False):
        heights = scale.shown(surface)
        axes.contourf(surface.x, surface.y, heights, scale.levels, norm=scale.norm, cmap=COLOURS, extend="both")
        axes.contour(surface.x, surface.y, heights, scale.levels[::2], colors="white", linewidths=0.5, alpha=0.6)
        _draw_path(axes, surface)
        _draw_marks(axes, surface)
        axes.set(xlabel=surface.axes[0], ylabel=surface.axes[1], title=title(surface))
        _few_ticks(axes)
        axes.set(xlim=(surface.x[0], surface.x[-1]), ylim=(surface.y[0], surface.y[-1]), aspect="equal")
    scale.bar(figure, list(panels), shrink=0.8, aspect=30)
    figure.supxlabel(caption, fontsize=8, color=GREY)
    return figure


def title(surface: Surface) -> str:
    """Return the panel's title, with the sharpness if it has a single checkpoint."""
    return surface.title if len(surface.marks) != 1 else f"{surface.title}\n{surface.marks[0].sharpness.sentence()}"


def _few_ticks(axes: Any) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _draw_path(axes: Axes, surface: Surface) -> None:
    if not surface.trajectory:
        return
    xs, ys = [station.x for station in surface.trajectory], [station.y for station in surface.trajectory]
    axes.plot(xs, ys, color=INK, linewidth=3.2)
    colour = look_of(surface.trajectory[-1].optimizer).dark
    axes.plot(xs, ys, color=colour, linewidth=1.8, marker="o", markersize=3.5, markeredgecolor=INK, markeredgewidth=0.5)


def _draw_marks(axes: Axes, surface: Surface) -> None:
    """Draw a star for each checkpoint, numbered if there are several."""
    for number, mark in enumerate(surface.marks, 1):
        colour = look_of(mark.optimizer).dark
        axes.plot([mark.x], [mark.y], "*", markersize=14, markerfacecolor=colour, markeredgecolor="white")
        if len(surface.marks) > 1:
            looks: dict[str, Any] = {"color": "white", "fontweight": "bold"}
            axes.annotate(str(number), (mark.x, mark.y), (6, 5), textcoords="offset points", **looks)


def surface_figure(surfaces: Sequence[Surface], scale: Scale, caption: str) -> Figure:
    figure, rows, columns = _grid(surfaces, 4.4)
    panels: list[Any] = []
    for number, surface in enumerate(surfaces, 1):
        axes: Any = figure.add_subplot(rows, columns, number, projection="3d")
        panels.append(axes)
        heights = scale.shown(surface)
        xs, ys = np.meshgrid(surface.x, surface.y)
        colours = matplotlib.colormaps[COLOURS](scale.norm(heights))
        looks: dict[str, Any] = {
            "rstride": 1,
            "cstride": 1,
            "linewidth": 0.15,
            "edgecolor": "#FFFFFF66",
            "shade": False,
        }
        axes.plot_surface(xs, ys, np.log10(heights), facecolors=colours, **looks)
        axes.set_zlim(np.log10(scale.low), np.log10(scale.high))
        axes.zaxis.set_major_locator(FixedLocator([float(np.log10(tick)) for tick in scale.ticks]))
        axes.zaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{10**height:.3g}"))
        axes.tick_params(labelsize=7)
        _few_ticks(axes)
        axes.set(xlabel=surface.axes[0], ylabel=surface.axes[1])
        axes.set_title(title(surface), loc="left", y=0.94)  # at 1, its upper half is outside the figure
        axes.view_init(elev=35, azim=-60)
    scale.bar(figure, list(panels), shrink=0.6, aspect=30)
    figure.supxlabel(caption, fontsize=8, color=GREY)
    return figure
