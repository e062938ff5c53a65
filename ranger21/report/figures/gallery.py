"""The figures of a comparison: the paper's Figures 1 to 4 redrawn from the runs, and further ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranger21.report.claims.figures import EARLY, reached, roughness, validation_loss
from ranger21.report.figures.curves import Curve, average, bin_width, binned
from ranger21.report.figures.drawing import FigurePanel, write_figure
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.papers_runs import Evidence, evidence
from ranger21.report.runs.run import FINISHED, RecordedRun
from ranger21.tracking.splits import HOLDOUT, OFFICIAL

TITLES = {OFFICIAL: "validation", HOLDOUT: "holdout"}
START = 1 / 3  # the share of a run that the paper's Figure 3 shows: 20 epochs of 60


@dataclass(frozen=True)
class Picture:
    """A figure to be drawn.

    Attributes:
        name: the name of its files, without suffix.
        title: a short description.
        remark: a sentence for the caption.
    """

    name: str
    title: str
    panels: tuple[FigurePanel, ...]
    remark: str = ""


def gallery(comparison: GroupComparison) -> list[Picture]:
    """Return the figures of a comparison, the paper's first. Figure 4 is Figure 2 for a model without batch norm."""
    found = evidence(comparison)
    width = bin_width(comparison.groups)
    bins = f"training loss: means over bins of {width:g} epoch{'' if width == 1 else 's'}"
    longest = max((run.last("epoch") or 0.0 for run in comparison.runs), default=0.0)

    def objective(run: RecordedRun) -> Curve:
        return binned(run.series("train/loss"), width)

    train = FigurePanel("Training loss", objective, log=True)
    watched = " or ".join(sorted({TITLES[run.watched] for run in comparison.runs}, reverse=True)).capitalize()
    loss = FigurePanel(f"{watched} loss, label-smoothed", validation_loss, log=True)
    top1 = f"{watched} top-1 (%)"
    start = longest * START or None
    curves = "figure2_curves" if found.has_batch_norm else "figure4_curves"
    pictures = [
        Picture("figure1_schedule", "Learning rate", (FigurePanel("Learning rate", _binned("lr", width)),)),
        Picture(curves, "Loss and accuracy", (train, loss, FigurePanel(top1, _top1())), bins),
        Picture("figure3_start", "The first third", (_until(train, start), _until(loss, start)), bins),
        Picture("accuracy", "Accuracy against epochs, images and time", _accuracies(top1)),
        Picture(
            "gradient_norm", "Gradient norm", (FigurePanel("Gradient norm", _binned("grad_norm", width), log=True),)
        ),
        Picture("smoothness", "Smoothness (claim C5)", (_smoothness(),), "log of the validation loss, epoch by epoch"),
    ]
    return pictures + _catching_up(found)


def write_gallery(comparison: GroupComparison, out: Path) -> list[Path]:
    """Write every figure of a comparison as PNG and SVG into `out` and return their paths."""
    paths: list[Path] = []
    for picture in gallery(comparison):
        paths += write_figure(comparison.groups, picture.panels, picture.remark, out / picture.name)
    return paths


def _top1(x: str = "epoch", scale: float = 1.0) -> Callable[[RecordedRun], Curve]:
    """Return a function that gives a run's validation top-1 against x, which is divided by `scale`."""

    def curve(run: RecordedRun) -> Curve:
        where, values = run.series(f"{run.watched}/acc1", x)
        return where / scale, values

    return curve


def _binned(key: str, width: float) -> Callable[[RecordedRun], Curve]:
    return lambda run: binned(run.series(key), width)


def _until(panel: FigurePanel, end: float | None) -> FigurePanel:
    """Return the panel limited to the first `end` epochs, so that the y axis fits them."""

    def curve(run: RecordedRun) -> Curve:
        epochs, values = panel.curve(run) if panel.curve else (np.empty(0), np.empty(0))
        shown = epochs <= (end or np.inf)
        return epochs[shown], values[shown]

    return FigurePanel(panel.title, curve, panel.log, end=end)


def _accuracies(title: str) -> tuple[FigurePanel, ...]:
    """Return panels of top-1 against epochs, images and time."""
    return (
        FigurePanel(title, _top1()),
        FigurePanel(title, _top1("images_seen", 1e6), x="million images"),
        FigurePanel(title, _top1("time", 3600), x="hours"),
    )


def _smoothness() -> FigurePanel:
    return FigurePanel("Roughness: mean |second difference|", figure=roughness, x="smoother is lower")


def _catching_up(found: Evidence) -> list[Picture]:
    """Return the figure of when each run reaches Ranger21's losses (claim C4); none if no Ranger21 run has finished."""
    finished = [run for run in found.ranger21 if run.status == FINISHED]
    epochs, losses, _, _ = average([validation_loss(run) for run in finished])
    if len(found.comparison.groups) < 2 or len(epochs) < 2:
        return []

    def curve(run: RecordedRun) -> Curve:
        later = [(epoch, reached(run, loss)) for epoch, loss in zip(epochs, losses, strict=True)]
        known = np.array([(epoch, when) for epoch, when in later if when is not None]).reshape(-1, 2)
        return known[:, 0], known[:, 1]

    panel = FigurePanel("Epoch at which the same loss is reached", curve, x="epoch at which Ranger21 has this loss")
    mark = f"claim C4 is about epoch {EARLY * epochs[-1]:.3g} on the x axis"
    return [
        Picture(
            "catching_up",
            "Catching up (claim C4)",
            (panel,),
            f"a curve ends where a run never reaches the loss; {mark}",
        )
    ]
