"""Detection of a run directory, lock, log or metrics file that was removed, renamed or replaced during a run."""

import os
from collections.abc import Callable
from pathlib import Path

from ranger21.records.directory import RunDirectory
from ranger21.system.errors import UserError
from ranger21.system.terminal import keep_log
from ranger21.tracking.jsonl import JsonLines


class Presence:
    """Compares the files that the writing process has open with the files that are now at their paths."""

    def __init__(self, place: RunDirectory, lines: JsonLines) -> None:
        self.place, self.lines = place, lines
        self._directory = os.open(place.path, os.O_RDONLY)

    def place_now(self) -> RunDirectory:
        """Return the run directory at its current path, after restoring a removed lock, log.txt or metrics.jsonl.

        Raises a UserError if the directory is gone, or if another process uses it now.
        """
        place = self.place if self._is(self.place.path) else RunDirectory(self._elsewhere())
        keep_log(self.place.log, place.log)
        self.place.keep_lock(place.lock)
        self.lines.keep(place.metrics)
        return place

    def write(self, action: Callable[[RunDirectory], None], step: int) -> None:
        """Call `action` with the run directory at its current path; `action` saves the checkpoint of `step`.

        Call it again if it failed because the directory was renamed. Raises a UserError if the directory is gone, or,
        after saving the checkpoint, if it was renamed.
        """
        place = self.place_now()
        try:
            action(place)
        except UserError:
            now = self.place_now()
            if now.path == place.path:
                raise
            place = now
            action(place)
        self.require_in_place(place, step)

    def require_in_place(self, place: RunDirectory, step: int) -> None:
        """Raise a UserError if the directory was renamed and a checkpoint was saved under the new name."""
        if place is not self.place:
            raise UserError(
                f"{self.place.path} was renamed to {place.path} during the run. A checkpoint of step {step} was saved "
                "there: rename the directory back and run the same command again to resume from it."
            )

    def _is(self, path: Path) -> bool:
        try:
            return os.path.samestat(path.stat(), os.fstat(self._directory))
        except OSError:
            return False

    def _elsewhere(self) -> Path:
        """Return the directory's current path, as Linux reports it."""
        try:
            path = Path(f"/proc/self/fd/{self._directory}").readlink()
            if self._is(path):
                return path
        except OSError:
            pass
        raise UserError(
            f"{self.place.path} was removed or renamed during the run, and nothing more can be saved: restore it and "
            "run the same command again to resume from its last checkpoint."
        )

    def close(self) -> None:
        os.close(self._directory)
