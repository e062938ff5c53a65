"""Stack traces of processes that make no progress, which show the rank responsible when several ranks hang."""

import contextlib
import datetime
import faulthandler
import logging
import os
import socket
import threading
from pathlib import Path
from typing import Any

log = logging.getLogger("ranger21")
BEATS = 10  # intervals into which the patience is divided
SLOWER = 3  # a step counts as hanging only if it takes this many times the longest step so far
MOST = 5  # stack traces of one process
LARGEST = 1 << 20  # bytes of a rank's file, over all starts of the run

_watching: "Stalls | None" = None  # the Stalls of this process


class Stalls:
    """Tracker that writes this rank's Python stacks to RUN/stacks/rank-N.txt if no step ends for too long.

    Too long means at least the patience, and at least three times the longest step so far except the first. Time is
    counted in beats of this process, so that a suspended process does not count as hanging. A thread writes the file;
    it needs the interpreter, so a stopped process writes nothing. A hang raises no error here; other time limits end
    the process.
    """

    def __init__(self, run: Path, rank: int, patience: float) -> None:
        """`patience` in seconds."""
        self.folder, self.rank, self.patience = run / "stacks", rank, patience
        self._step = self._signs = self._written = 0
        self._over = threading.Event()

    def __enter__(self) -> "Stalls":
        global _watching
        _watching = self
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        global _watching
        _watching = None
        self._over.set()

    def progress(self, step: int) -> None:
        self._step = step
        self.alive()

    def log(self, metrics: dict[str, float]) -> None:
        self.alive()

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        self.alive()

    def alive(self) -> None:
        """Report progress other than a finished step."""
        self._signs += 1

    def write(self, why: str) -> Path | None:
        """Append the stacks of all threads to this rank's file; return its path, or None if nothing was written.

        Nothing is written if the file cannot be, if it is full, or if this process has written its five traces.
        """
        path = self.folder / f"rank-{self.rank}.txt"
        if self._written >= MOST:
            return None
        self._written += 1
        try:
            self.folder.mkdir(exist_ok=True)  # not its parents, because a run directory may have been renamed
            with open(path, "a") as file:
                if file.tell() > LARGEST:
                    return None
                now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
                where = f"rank {self.rank}, process {os.getpid()} on {socket.gethostname()}"
                file.write(f"{now} {where}, after step {self._step}: {why}\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
                file.write("\n")
        except OSError as error:
            log.warning("The stack traces of a hang could not be written to %s (%s).", path, error.strerror)
            return None
        return path

    def _watch(self) -> None:
        seen, silent, longest, told = 0, 0, 0, False
        while not self._over.wait(self.patience / BEATS):
            if self._signs != seen:
                longest = max(longest, silent) if seen else 0  # the first step is slower: it warms up
                seen, silent, told = self._signs, 0, False
                continue
            silent += 1
            if not told and silent >= max(BEATS, SLOWER * longest):
                told = True
                why = f"no step has ended for {silent * self.patience / BEATS:g} s"
                if path := self.write(why):
                    text = "Rank %d: %s. Its stack traces are in %s (set RANGER21_PATIENCE=%g to wait longer)."
                    log.warning(text, self.rank, why, path, 4 * self.patience)


def alive() -> None:
    """Report progress to this process's Stalls, if there is one."""
    if _watching:
        _watching.alive()


def write_stacks(why: str) -> None:
    """Write the stacks of this process before it is killed, if it has a Stalls; never raise an error."""
    if _watching:
        with contextlib.suppress(Exception):
            _watching.write(why)
