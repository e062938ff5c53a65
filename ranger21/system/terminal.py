"""The terminal and log.txt: how this package's messages reach people."""

import datetime
import logging
import os
import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from ranger21.system.errors import UserError
from ranger21.system.files import put_back
from ranger21.system.wording import printable

log = logging.getLogger("ranger21")


console = Console(highlight=False)


class Printable(logging.Formatter):
    """Messages of which a terminal obeys nothing, whatever names they quote."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Lines(logging.StreamHandler):
    """Messages as lines on standard output.

    A reader of it that goes away (`| head`) is as a terminal that closes: SIGHUP, which saves and stops a run, and is
    ignored under `nohup`; where nothing listens for it the error is raised. What does not fit on a full disk waits for
    room: log.txt has it.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, BrokenPipeError):
            if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
                raise error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            os.kill(os.getpid(), signal.SIGHUP)
        elif not isinstance(error, OSError):
            super().handleError(record)


def log_to_console(main: bool) -> None:
    """Messages of this package go to the console; of ranks other than 0, warnings only."""
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False, markup=False)
    else:
        handler = Lines(sys.stdout)
    handler.setLevel(logging.INFO if main else logging.WARNING)
    handler.setFormatter(Printable("%(message)s"))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


class LogFile(logging.FileHandler):
    """Messages as lines of log.txt. That one cannot be written is said once; it waits for room."""

    told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.told:
            self.told = True
            text = "%s could not be written (%s): what the run says may be missing there."
            log.warning(text, self.baseFilename, error.strerror)


def log_to_file(path: Path) -> None:
    """Messages of this package go to a file, too. Raises a UserError if it cannot be opened."""
    try:
        handler = LogFile(path, "a+", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        text = f"{path} could not be written ({error.strerror}): make room and run the same command again."
        raise UserError(text) from error
    handler.setFormatter(Printable("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)


def keep_log(begun: Path, path: Path) -> None:
    """Write the log that was begun under one name anew if `path` is no name of it any more.

    Raises a UserError if it cannot be written.
    """
    for handler in log.handlers:
        own = isinstance(handler, LogFile) and Path(handler.baseFilename) == begun.absolute()
        old = handler.stream if isinstance(handler, LogFile) and own else None
        if isinstance(handler, LogFile) and old and put_back(path, old.fileno()):
            handler.setStream(open(path, "a+", encoding="utf-8", errors="backslashreplace"))
            old.close()
            log.warning("%s was removed while the run went on: it is written anew.", path)


def duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
