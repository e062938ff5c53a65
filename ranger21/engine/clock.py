"""Measure how a run spends its time."""

import time
from collections.abc import Iterator
from typing import Any

from ranger21.engine.course import Course


class Clock:
    """Measures the running time, the throughput, and the share of time spent waiting for data.

    Args:
        before: seconds that earlier processes of the run have trained.
        save_every_minutes: how often `save_due` returns True; None: never.
    """

    def __init__(self, before: float, save_every_minutes: float | None) -> None:
        self._before, self._every = before, (save_every_minutes or float("inf")) * 60
        self._start = self._saved = time.perf_counter()
        self.restart()

    def restart(self, step: int = 0) -> None:
        """Begin a new span of steps, after `step`."""
        self._span, self._waited, self._step = time.perf_counter(), 0.0, step

    def wait_for(self, batches: Iterator[Any]) -> Any:
        """Return the next batch, and count the time until it arrives as waiting for data."""
        begin = time.perf_counter()
        batch = next(batches)
        self._waited += time.perf_counter() - begin
        return batch

    def seconds(self) -> float:
        """Return the running time in seconds, over all processes of the run."""
        return self._before + time.perf_counter() - self._start

    def save_due(self) -> bool:
        """Return True once every `save_every_minutes`."""
        due = time.perf_counter() - self._saved >= self._every
        if due:
            self._saved = time.perf_counter()
        return due

    def metrics(self, step: int, course: Course) -> dict[str, float]:
        """Return the throughput and the share of waiting since the last restart; empty if no image was seen."""
        span = max(time.perf_counter() - self._span, 1e-9)
        images = course.seen(step) - course.seen(self._step)
        return {"perf/images_per_s": images / span, "perf/data_wait": self._waited / span} if images else {}
