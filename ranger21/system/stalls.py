"""Says where a process stands that makes no progress. In a hang of several ranks, one stack names the rank to blame."""

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
BEATS = 10  # in which the patience is counted
SLOWER = 3  # times the longest step so far are no hang
MOST = 5  # stacks of one process
LARGEST = 1 << 20  # bytes of a file of stacks, of all starts of a run together

_watching: "Stalls | None" = None  # this process's


class Stalls:
    """A tracker that, while entered, writes this rank's Python stacks where no step ends for too long.

    Too long is the patience, and more than three times as long as any step but the first has taken. Time is counted in
    beats of this process: one that the scheduler suspends has not hung. Every rank writes RUN/stacks/rank-N.txt, by a
    thread; it needs the interpreter, so a process that the system has stopped writes nothing. A hang is no error here:
    other time limits end it.
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
        """The run goes on, if not by a whole step."""
        self._signs += 1

    def write(self, why: str) -> Path | None:
        """Append the stacks of all threads to this rank's file, and return it; None if it cannot be, or has enough."""
        path = self.folder / f"rank-{self.rank}.txt"
        if self._written >= MOST:
            return None
        self._written += 1
        try:
            self.folder.mkdir(exist_ok=True)  # without its parents: a run directory may have been renamed
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
            log.warning("The stacks of a hang could not be written to %s (%s).", path, error.strerror)
            return None
        return path

    def _watch(self) -> None:
        seen, silent, longest, told = 0, 0, 0, False
        while not self._over.wait(self.patience / BEATS):
            if self._signs != seen:
                longest = max(longest, silent) if seen else 0  # the first step makes ready what the others use
                seen, silent, told = self._signs, 0, False
                continue
            silent += 1
            if not told and silent >= max(BEATS, SLOWER * longest):
                told = True
                why = f"no step has ended for {silent * self.patience / BEATS:g} s"
                if path := self.write(why):
                    text = "Rank %d: %s. Where it stands is in %s (RANGER21_PATIENCE=%g waits longer)."
                    log.warning(text, self.rank, why, path, 4 * self.patience)


def alive() -> None:
    """Tell this process's watch, if there is one, that the run goes on."""
    if _watching:
        _watching.alive()


def write_stacks(why: str) -> None:
    """Write the stacks of a process that is about to be ended, if it is watched."""
    if _watching:
        with contextlib.suppress(Exception):  # what ends the process must not fail
            _watching.write(why)
