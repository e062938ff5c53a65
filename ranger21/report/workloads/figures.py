"""The figures over all workloads: interquartile means with their intervals, and performance profiles."""

from __future__ import annotations

from pathlib import Path

from ranger21.report.figures.drawing import Bar, write_bars
from ranger21.report.figures.stairs import Stair, Stairs, write_stairs
from ranger21.report.workloads.profiles import LARGEST_RATIO
from ranger21.report.workloads.text import PROFILES, SCORES
from ranger21.report.workloads.workloads import Overall

CAPTION = "Share of all targets, each workload weighing the same, that half of an optimizer's runs reached."


def write_workloads_figures(overall: Overall, out: Path) -> list[Path]:
    """Write both as PNG and SVG into `out`, those that there are."""
    paths: list[Path] = []
    if overall.means:
        names = [name for name in overall.order if name in overall.means]
        kind = f"interquartile mean over {len(overall.meeting.workloads)} workloads, 95 % interval"
        bars = [Bar(name, kind, m.mean, m.low, m.high) for name in names for m in [overall.means[name]]]
        label = "top-1 above chance, as a share of what lies between chance and 100 %"
        paths += write_bars(bars, names, label, out / SCORES, zero=False)
    if overall.profiles:
        lines = [
            Stair(name, index, *overall.profiles[name].steps)
            for index, name in enumerate(overall.meeting.contestants)
            if name in overall.profiles
        ]
        panel = Stairs("Time to target", lines, "times the images of the fastest", LARGEST_RATIO, start=1.0)
        paths += write_stairs([panel], "share of targets", CAPTION, out / PROFILES)
    return paths
