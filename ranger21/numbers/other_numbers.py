"""Numbers from records other than runs: throughput on a GPU, fault campaigns, loss landscapes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any


class SpeedNumbers:
    """Numbers of timed runs in a folder.

    Placeholders are `{RUN | FIGURE}`, `{RUN / RUN}` for the ratio of two median throughputs, and `{RUN - RUN | STEP}`
    for the difference of two training losses at a step. The first throughput of a run is ignored, as it includes the
    start-up.
    """

    def __init__(self, place: Path, names: Mapping[str, str]) -> None:
        self.place, self.names = place, names

    def number(self, place: str) -> str:
        """Return the number for a placeholder. Raises a LookupError if there is none."""
        run, _, what = (part.strip() for part in place.partition("|"))
        if " / " in run:
            first, second = (statistics.median(self._speeds(one)) for one in run.split(" / "))
            return f"{first / second:.2f}"
        if " - " in run:
            first, second = (self._losses(one)[int(what)] for one in run.split(" - "))
            return _short(abs(first - second))
        return OF_SPEEDS[what](self._speeds(run))

    def _speeds(self, run: str) -> list[float]:
        return [line["perf/images_per_s"] for line in self._lines(run) if "perf/images_per_s" in line][1:]

    def _losses(self, run: str) -> dict[int, float]:
        return {line["step"]: line["train/loss"] for line in self._lines(run) if "train/loss" in line}

    def _lines(self, run: str) -> list[dict[str, Any]]:
        file = self.place / run / "metrics.jsonl"
        if not file.exists():
            raise LookupError(f"there is no {file}")
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


OF_SPEEDS: dict[str, Callable[[list[float]], str]] = {
    "median": lambda speeds: f"{statistics.median(speeds):,.0f}",
    "range": lambda speeds: f"{min(speeds):,.0f} to {max(speeds):,.0f}",
    "n": lambda speeds: str(len(speeds)),
}


class FaultNumbers:
    """Numbers from a record of scripts/fault_campaign.py. Placeholders are `{FIGURE}`."""

    def __init__(self, place: Path, names: Mapping[str, str]) -> None:
        self.place, self.names = place, names

    @cached_property
    def record(self) -> dict[str, Any]:
        """The content of the record file."""
        record: dict[str, Any] = json.loads(self.place.read_text(encoding="utf-8"))
        return record

    def number(self, place: str) -> str:
        """Return the number for a placeholder. Raises a LookupError if there is none."""
        return OF_FAULTS[place.strip()](self.record)


OF_FAULTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "faults": lambda record: f"{len(record['faults']):,}",
    "kinds": lambda record: str(len({fault["kind"] for fault in record["faults"]})),
    "recovered": lambda record: f"{sum(not fault['mistake'] for fault in record['faults']):,}",
    "runs": lambda record: str(len(record["runs"])),
    "commit": lambda record: str(record["commit"])[:7],
    "minutes": lambda record: f"{record['minutes']:.1f}",
    "largest": lambda record: f"{max(run['weights'] for run in record['runs']):.1e}",
}


class LandscapeNumbers:
    """Numbers from a landscape.json. Placeholders are `{CHECKPOINT | FIGURE}`."""

    def __init__(self, place: Path, names: Mapping[str, str]) -> None:
        self.place, self.names = place, names

    def number(self, place: str) -> str:
        """Return the number for a placeholder. Raises a LookupError if there is none."""
        name, _, what = (part.strip() for part in place.partition("|"))
        surfaces = json.loads(self.place.read_text(encoding="utf-8"))["surfaces"]
        marks = {Path(mark["checkpoint"]).name: mark for surface in surfaces for mark in surface["marks"]}
        return OF_MARK[what](marks[name])


OF_MARK: dict[str, Callable[[dict[str, Any]], str]] = {
    "loss": lambda mark: f"{mark['loss']:.3f}",
    "sharpness": lambda mark: f"{mark['sharpness']['mean']:.3f} ± {mark['sharpness']['sd']:.3f}",
}


def _short(value: float) -> str:
    """Return a number with two digits, or with one if it is below 1e-5: 1.4e-4, 1e-7."""
    mantissa, _, exponent = f"{value:.{0 if value < 1e-5 else 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
