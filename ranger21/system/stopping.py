"""Signals that end a run at the next step, after a checkpoint."""

import contextlib
import os
import signal
from pathlib import Path
from types import FrameType, TracebackType

from ranger21.system.errors import UserError

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


_early = 0  # the exit code of a stop before there was a flag for it


def heed_early() -> None:
    """From now on a warning is kept for the next StopFlag; by default the process would die of it."""

    def caught(number: int, frame: FrameType | None) -> None:
        global _early
        _early = EXIT_CODES[signal.SIGUSR1]

    signal.signal(signal.SIGUSR1, caught)


def heeded() -> list[signal.Signals]:
    """Return the signals to listen for: not SIGHUP where it is ignored, as `nohup` has it."""
    return [number for number in EXIT_CODES if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


class StopFlag:
    """While entered, the signals above only set `code`, the exit code; a second Ctrl-C ends at once.

    They are SIGTERM, SIGUSR1, SIGHUP (the terminal closes; one that is ignored stays ignored) and SIGINT (Ctrl-C).
    """

    def __init__(self) -> None:
        global _early
        self.code, _early = _early, 0
        self._interrupts = 0
        self._old: dict[int, object] = {}

    def __enter__(self) -> "StopFlag":
        try:
            self._old = {number: signal.signal(number, self._caught) for number in heeded()}
        except ValueError as error:
            raise UserError("A run must be started in the main thread: it has signals to listen for.") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def fail(self) -> None:
        """Lets the run end as by a signal, with exit code 1: something has failed that another process may do."""
        self.code = self.code or 1

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        self.code = EXIT_CODES[signal.Signals(number)]


def leave_word() -> None:
    """Tells the batch script, by a file, that the run itself stopped after it had saved: it can begin again.

    The exit code does not tell: SLURM ends tasks with 143, too, when another task has failed.
    """
    if place := os.environ.get("RANGER21_STOPPED"):
        with contextlib.suppress(OSError):  # a folder that is not in the container
            Path(place).touch()
