"""The outputs of a run: metrics.jsonl, the console, the loggers, and the watcher of each rank."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ranger21.config import Config
from ranger21.engine.parts import Progress
from ranger21.records import directory as records
from ranger21.records.directory import RunDirectory
from ranger21.records.manifest import read_manifest
from ranger21.records.presence import Presence
from ranger21.run.build import Parts
from ranger21.run.profiling import Profile
from ranger21.system.ranks import seconds_of_patience
from ranger21.system.stalls import Stalls
from ranger21.tracking import FanOut, Tracker
from ranger21.tracking.console import ConsoleTracker
from ranger21.tracking.jsonl import JsonLines
from ranger21.tracking.loggers.base import RunInfo
from ranger21.tracking.loggers.guarded import Guarded

log = logging.getLogger("ranger21")


class Reports:
    """The trackers and files to which one rank reports.

    Attributes:
        stalls: watches this rank for a hang while entered.
        tracker: receives the metrics and passes them on.
        lines: metrics.jsonl, on rank 0 once it is open.
        presence: the run directory that rank 0 holds open.
    """

    def __init__(self, parts: Parts, place: RunDirectory) -> None:
        self.parts, self.place = parts, place
        self.stalls = Stalls(place.path, parts.world.rank, seconds_of_patience())
        self.tracker = FanOut([])
        self.lines: JsonLines | None = None
        self.presence: Presence | None = None

    def open_lines(self, size: int, rest: str, on_failure: Callable[[], None]) -> JsonLines:
        """Open metrics.jsonl on rank 0. The arguments are those of `JsonLines`."""
        self.lines = JsonLines(self.place.metrics, size, rest, on_failure)
        return self.lines

    def open_trackers(self, run_id: str, progress: Progress) -> None:
        """Open the trackers of this rank. They see the run's `progress`, which training changes."""
        done = progress.step
        trackers: list[Tracker] = []
        if self.lines:
            steps = self.parts.plan.total_steps
            trackers = [self.lines, ConsoleTracker(steps, done), *self._loggers(run_id, progress)]
            self.presence = Presence(self.place, self.lines)
        self.tracker = FanOut([*trackers, self.stalls, *self._profile(done)])

    def _loggers(self, run_id: str, progress: Progress) -> list[Tracker]:
        config = self.parts.config
        run = RunInfo(run_id, self.place.path, config.experiment, records.to_dict(config), lambda: progress.best)
        return [Guarded(member, run) for member in config.logger.members()]

    def _profile(self, done: int) -> list[Tracker]:
        world, steps = self.parts.world, self.parts.config.trainer.profile
        if not steps:
            return []
        return [Profile(self.place.path, world.rank, steps, done, world.device.type, self.parts.plan.evaluates)]

    def require_written(self) -> None:
        """Raise a UserError on rank 0 if metrics.jsonl lacks lines."""
        if self.lines:
            self.lines.sync()
            self.lines.require_written()

    def close(self, exit_code: int, summary: dict[str, Any]) -> str | None:
        """Close everything; the arguments and the sentences returned are those of `Tracker.close`."""
        told = self.tracker.close(exit_code, summary)
        if self.presence:
            self.presence.close()
        return told


def report_again(place: RunDirectory, config: Config, result: Mapping[str, Any]) -> None:
    """Report a finished run to the loggers for which somebody waits. A failure is a warning."""
    best = result.get("best") or {}
    manifest = read_manifest(place.manifest) if place.manifest.exists() else {}
    values, run_id = records.to_dict(config), manifest.get("id") or place.path.name
    run = RunInfo(run_id, place.path, config.experiment, values, lambda: best, finished=True)
    summary = {f"best/{name}": value for name, value in best.items()} | {"status": result["status"]}
    for logger in config.logger.members():
        if logger.waiting() and (told := Guarded(logger, run).close(0, summary)):
            log.info("%s", told)
