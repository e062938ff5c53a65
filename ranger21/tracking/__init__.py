"""Where a run's numbers go: metrics.jsonl, the console, W&B. One interface, one fan-out."""

from collections.abc import Sequence
from typing import Any, Protocol

Metrics = dict[str, float]


def number(value: Any) -> float:
    """A value as a number, NaN for what is none or too large for one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("nan")


class Tracker(Protocol):
    """Takes a run's numbers as they come."""

    def progress(self, step: int) -> None:
        """A step is done."""

    def log(self, metrics: Metrics) -> None:
        """Numbers at `metrics["step"]`."""

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        """The process ends its part of the run: finished (0), or to be resumed."""


class FanOut:
    """Hands everything to each of several trackers, in their order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = trackers

    def progress(self, step: int) -> None:
        for tracker in self.trackers:
            tracker.progress(step)

    def log(self, metrics: Metrics) -> None:
        for tracker in self.trackers:
            tracker.log(metrics)

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.close(exit_code, summary)
