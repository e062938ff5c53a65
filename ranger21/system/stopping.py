"""Signals that stop a run at the next step after saving a checkpoint."""

import contextlib
import os
import signal
from pathlib import Path
from types import FrameType, TracebackType

from ranger21.system.errors import UserError

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGHUP: 129, signal.SIGINT: 130}


_early = 0  # exit code of a signal that arrived before there was a StopFlag


def catch_early_signal() -> None:
    """Keep an early SIGUSR1 for the next StopFlag; by default it would kill the process."""

    def caught(number: int, frame: FrameType | None) -> None:
        global _early
        _early = EXIT_CODES[signal.SIGUSR1]

    signal.signal(signal.SIGUSR1, caught)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop a run: those of EXIT_CODES, without SIGHUP if it is ignored (as under `nohup`)."""
    return [number for number in EXIT_CODES if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


class StopFlag:
    """Context manager in which a stop signal only sets `code`, the exit code; a second Ctrl-C interrupts at once.

    The signals are SIGTERM, SIGUSR1, SIGHUP (the terminal closes; stays ignored if it was) and SIGINT (Ctrl-C).
    """

    def __init__(self) -> None:
        global _early
        self.code, _early = _early, 0
        self._interrupts = 0
        self._old: dict[int, object] = {}

    def __enter__(self) -> "StopFlag":
        try:
            self._old = {number: signal.signal(number, self._caught) for number in stop_signals()}
        except ValueError as error:
            raise UserError("Start the run in the main thread, because Python handles signals only there.") from error
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def fail(self) -> None:
        """Stop the run as a signal does, with exit code 1, after a failure that may not recur in a new process."""
        self.code = self.code or 1

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
        self.code = EXIT_CODES[signal.Signals(number)]


def mark_stopped() -> None:
    """Create the file RANGER21_STOPPED, which tells the batch script that the run saved a checkpoint and can resume.

    The exit code does not tell: SLURM also ends tasks with 143 when another task has failed.
    """
    if place := os.environ.get("RANGER21_STOPPED"):
        with contextlib.suppress(OSError):  # the folder may be missing in the container
            Path(place).touch()
