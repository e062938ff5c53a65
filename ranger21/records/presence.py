"""Whether a run's directory, its lock, log and metrics are still what the run holds: names can be taken away."""

import os
from collections.abc import Callable
from pathlib import Path

from ranger21.records.directory import RunDirectory
from ranger21.system.errors import UserError
from ranger21.system.terminal import keep_log
from ranger21.tracking.jsonl import JsonLines


class Presence:
    """What the process that writes holds open of its run directory, beside what the names stand for now."""

    def __init__(self, place: RunDirectory, lines: JsonLines) -> None:
        self.place, self.lines = place, lines
        self._directory = os.open(place.path, os.O_RDONLY)

    def place_now(self) -> RunDirectory:
        """Return the run directory where it is now, with the lock, log.txt and metrics.jsonl in it.

        A file that was removed is put back. Raises a UserError if the directory is gone, or is another process's now.
        """
        place = self.place if self._is(self.place.path) else RunDirectory(self._elsewhere())
        keep_log(self.place.log, place.log)
        self.place.keep_lock(place.lock)
        self.lines.keep(place.metrics)
        return place

    def write(self, action: Callable[[RunDirectory], None], step: int) -> None:
        """Call `action`, which saves a checkpoint, with the run directory where it is now.

        Call it once more if it failed because the directory was renamed meanwhile. Raises a UserError if the
        directory is gone, or has another name now, under which the checkpoint was saved.
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
        """Raise a UserError if the directory has another name now, under which a checkpoint was saved."""
        if place is not self.place:
            raise UserError(
                f"{self.place.path} was renamed to {place.path} while the run went on. A checkpoint of step {step} was "
                "saved there: rename it back and run the same command again, which goes on from there."
            )

    def _is(self, path: Path) -> bool:
        try:
            return os.path.samestat(path.stat(), os.fstat(self._directory))
        except OSError:
            return False

    def _elsewhere(self) -> Path:
        """Where the directory is now, as Linux knows it."""
        try:
            path = Path(f"/proc/self/fd/{self._directory}").readlink()
            if self._is(path):
                return path
        except OSError:
            pass
        raise UserError(
            f"{self.place.path} was removed or renamed while the run went on, and nothing more can be saved: put it "
            "back where it was and run the same command again, which goes on from its last checkpoint."
        )

    def close(self) -> None:
        os.close(self._directory)
