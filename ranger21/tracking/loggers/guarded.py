"""A logger whose failures do not end the training."""

import logging
from collections.abc import Callable
from typing import Any

from ranger21.system.wording import reason
from ranger21.tracking import Metrics, Tracker
from ranger21.tracking.loggers.base import LoggerConfig, RunInfo

log = logging.getLogger("ranger21")


class Guarded:
    """Tracker that forwards to a logger's tracker, and switches the logger off at its first failure."""

    def __init__(self, config: LoggerConfig, run: RunInfo) -> None:
        self.name = config.name
        self._tracker: Tracker | None = None
        self._tracker = self._tried(lambda: config.open(run))

    def _tried(self, call: Callable[[], Any]) -> Any:
        """Return what the call returns, or None if it fails."""
        try:
            return call()
        except Exception as error:  # whatever a foreign library raises
            self._tracker = None
            text = "logger=%s is switched off for the rest of this run: %s. metrics.jsonl has all metrics."
            log.warning(text, self.name, reason(error))
            return None

    def progress(self, step: int) -> None:
        if tracker := self._tracker:
            self._tried(lambda: tracker.progress(step))

    def log(self, metrics: Metrics) -> None:
        if tracker := self._tracker:
            self._tried(lambda: tracker.log(metrics))

    def close(self, exit_code: int, summary: dict[str, Any]) -> str | None:
        tracker = self._tracker
        return self._tried(lambda: tracker.close(exit_code, summary)) if tracker else None
