"""Log messages on the terminal and in log.txt."""

import datetime
import logging
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.table import Table

from ranger21.system.errors import UserError
from ranger21.system.files import not_written, put_back
from ranger21.system.wording import printable

log = logging.getLogger("ranger21")


def in_notebook() -> bool:
    """Return whether a Jupyter kernel started this process: its terminal shows control codes as text."""
    return "JPY_PARENT_PID" in os.environ


def wide_console(width: int, stderr: bool = False) -> Console:
    """Return a console for tables: as wide as the terminal or, where none shows the output, of `width` characters."""
    own = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(width=None if own else width, stderr=stderr, **PLAIN)


# A notebook shows control codes as text.
PLAIN: dict[str, Any] = {"highlight": False, "force_jupyter": False, "force_terminal": False if in_notebook() else None}
console = Console(**PLAIN)


def first_that_fits(tables: Sequence[Table], on: Console) -> Table:
    """Return the first table that fits into the console's width or, if none does, the last."""
    endless = on.options.update(max_width=10_000)
    return next((table for table in tables if on.measure(table, options=endless).maximum <= on.width), tables[-1])


def fitting(parts: Iterable[str], width: int) -> str:
    """Return as many parts as fit into a line of `width` characters, from the first on; the first part always."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if line and cell_len(longer) > width:
            break
        line = longer
    return line


class Printable(logging.Formatter):
    """Formatter that escapes control characters, so that quoted names cannot control the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Fitting(Printable):
    """Formatter for a terminal: a message with `parts` becomes one line with as many of them as fit."""

    def format(self, record: logging.LogRecord) -> str:
        parts = getattr(record, "parts", None)
        return printable(fitting(parts, console.width)) if parts else super().format(record)


class Lines(logging.StreamHandler):
    """Handler that writes messages as lines to standard output.

    If the reader goes away (`| head`), the process sends itself SIGHUP, as a closing terminal does: it saves and stops
    a run, and is ignored under `nohup`. Without a handler for SIGHUP the error is raised. If the disk is full, output
    waits for space; log.txt has the messages.
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
    """Send this package's messages to the console; from ranks other than 0 (`main` is false), only warnings."""
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_time=False, show_level=False, markup=False)
        handler.highlighter, handler.keywords = NullHighlighter(), []
        handler.setFormatter(Fitting("%(message)s"))
    else:
        handler = Lines(sys.stdout)
        handler.setFormatter(Printable("%(message)s"))
    handler.setLevel(logging.INFO if main else logging.WARNING)
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


class LogFile(logging.FileHandler):
    """Handler that writes messages to log.txt and warns once if it cannot; the messages wait for free space."""

    told = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.told:
            self.told = True
            text = "%s could not be written (%s): messages of the run may be missing there."
            log.warning(text, self.baseFilename, error.strerror)


def log_to_file(path: Path) -> None:
    """Send this package's messages to a file as well. Raises a UserError if it cannot be opened."""
    try:
        handler = LogFile(path, "a+", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{not_written(path, error)}.") from error
    handler.setFormatter(Printable("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)


def keep_log(begun: Path, path: Path) -> None:
    """Restore a log file if `path` no longer names it.

    Args:
        begun: the path under which the log file was opened.
        path: the path at which it should be now; differs if the run directory was renamed.

    Raises a UserError if it cannot be written.
    """
    for handler in log.handlers:
        own = isinstance(handler, LogFile) and Path(handler.baseFilename) == begun.absolute()
        old = handler.stream if isinstance(handler, LogFile) and own else None
        if isinstance(handler, LogFile) and old and put_back(path, old.fileno()):
            handler.setStream(open(path, "a+", encoding="utf-8", errors="backslashreplace"))
            old.close()
            log.warning("%s was removed during the run and has been restored.", path)


def duration(seconds: float) -> str:
    """Return a duration as text, such as 1:02:03."""
    return str(datetime.timedelta(seconds=round(seconds)))
