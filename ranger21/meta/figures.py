"""Draw the searches: the best top-1 so far against the images seen, and the effect of each ingredient."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ranger21.meta.effects import Effect
from ranger21.report.figures.drawing import GREY, STYLE, line_style, save
from ranger21.tracking.colours import DASHED, DOTTED, GREEN, INK, OCHRE, SOLID, Look

Curves = Mapping[str, Sequence[Sequence[tuple[float, float]]]]  # (images, top-1) of each search, by method
LOOKS = {
    "thompson": Look(*OCHRE, SOLID, 2.2),
    "tpe": Look(*GREEN, DASHED, 1.8),
    "random": Look(*INK, DOTTED, 1.8),
}


def write_progress(curves: Curves, path: Path) -> list[Path]:
    """Write the figure of the best top-1 on the holdout so far. `path` has no suffix."""

    def draw(axes: Axes) -> None:
        for name, found in curves.items():
            images = np.array([x for x, _ in found[0]]) / 1e6
            best = np.array([[y for _, y in one] for one in found])
            look = LOOKS[name]
            axes.plot(images, best.mean(axis=0), marker="o", markersize=3, label=name, **line_style(look))
            axes.plot(images, best.T, **line_style(replace(look, width=0.7)), alpha=0.7)
        axes.set_xlabel("million images seen by a search")
        axes.set_ylabel("best top-1 on the holdout so far (%)")
        axes.grid(True, axis="y")
        axes.legend(frameon=False)

    caption = "After each bracket. Thick: the mean over searches. Thin: each search."
    return _write(draw, caption, (6.4, 4.0), path)


def write_effects(effects: Sequence[Effect], accuracy: float, path: Path) -> list[Path]:
    """Write the figure of the effect of each ingredient on a given accuracy, a fraction. `path` has no suffix."""
    ordered = sorted(effects, key=lambda one: one.mean)

    def draw(axes: Axes) -> None:
        for place, one in enumerate(ordered):
            color = LOOKS["thompson"].light if one.is_sure else GREY
            axes.plot([one.low, one.high], [place, place], color=color, linewidth=1.6)
            axes.plot([one.mean], [place], "o", color=color, markersize=4.5)
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_yticks(range(len(ordered)), [" with ".join(one.names) for one in ordered])
        axes.set_xlabel("effect on the top-1 (points)")
        axes.grid(True, axis="x")

    caption = f"From {100 * accuracy:.0f} %. Means and 95 % credible intervals; in color where the interval excludes 0."
    return _write(draw, caption, (6.4, 1.4 + 0.24 * len(ordered)), path)


def _write(draw: Callable[[Axes], None], caption: str, size: tuple[float, float], path: Path) -> list[Path]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        figure.supxlabel(textwrap.fill(caption, 90), fontsize=8, color=GREY)
        return save(figure, path)
