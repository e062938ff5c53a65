"""Trackers for a run's metrics: metrics.jsonl, the console and W&B, behind one interface."""

from collections.abc import Sequence
from typing import Any, Protocol

Metrics = dict[str, float]


def number(value: Any) -> float:
    """Return a value as a float; NaN if it is not a number or too large."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("nan")


class Tracker(Protocol):
    """Interface of a receiver of a run's metrics."""

    def progress(self, step: int) -> None:
        """Note that a step has ended."""

    def log(self, metrics: Metrics) -> None:
        """Record metrics of the step `metrics["step"]`."""

    def close(self, exit_code: int, summary: dict[str, Any]) -> str | None:
        """End this process's part of the run; exit code 0 means finished, any other that it will be resumed.

        Returns a sentence for the last lines on the console, such as where the metrics are; None for no sentence.
        """


class FanOut:
    """Tracker that forwards every call to several trackers in order."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = trackers

    def progress(self, step: int) -> None:
        for tracker in self.trackers:
            tracker.progress(step)

    def log(self, metrics: Metrics) -> None:
        for tracker in self.trackers:
            tracker.log(metrics)

    def close(self, exit_code: int, summary: dict[str, Any]) -> str | None:
        told = [tracker.close(exit_code, summary) for tracker in self.trackers]
        return "\n".join(sentence for sentence in told if sentence) or None
