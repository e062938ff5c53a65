"""Draw the figures over all workloads: interquartile means with intervals, and performance profiles."""

from __future__ import annotations

from pathlib import Path

from ranger21.report.figures.drawing import ErrorBar, write_error_bars
from ranger21.report.figures.stairs import StepLine, StepPanel, write_stairs
from ranger21.report.groups.looks import looks_of, optimizer_of
from ranger21.report.workloads.profiles import LARGEST_RATIO
from ranger21.report.workloads.text import PROFILES, SCORES
from ranger21.report.workloads.workloads import Overall

CAPTION = "Share of all targets, with equal weights for the workloads, that half of an optimizer's runs reached."


def write_workloads_figures(overall: Overall, out: Path) -> list[Path]:
    """Write the figures that apply as PNG and SVG into `out`."""
    paths: list[Path] = []
    groups = {name: group for workload in overall.meeting.workloads for name, group in workload.groups.items()}
    drawn = looks_of({name: optimizer_of(groups[name]) for name in overall.meeting.contestants})
    if overall.means:
        names = [name for name in overall.order if name in overall.means]
        kind = f"interquartile mean over {len(overall.meeting.workloads)} workloads, 95 % interval"
        bars = [ErrorBar(name, kind, m.mean, m.low, m.high) for name in names for m in [overall.means[name]]]
        label = "score: (top-1 − chance) / (100 % − chance)"
        colours = {name: look.light for name, look in drawn.items()}
        paths += write_error_bars(bars, names, label, out / SCORES, zero=False, colours=colours)
    if overall.profiles:
        lines = [
            StepLine(name, drawn[name], *overall.profiles[name].steps)
            for name in overall.meeting.contestants
            if name in overall.profiles
        ]
        panel = StepPanel(
            "Time to target", lines, "images, relative to the fastest optimizer", LARGEST_RATIO, start=1.0
        )
        paths += write_stairs([panel], "share of targets", CAPTION, out / PROFILES)
    return paths
