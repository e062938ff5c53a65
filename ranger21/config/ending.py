"""End a command: with an error message for mistakes of the user, and after all output is written."""

import contextlib
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from ranger21.config.mistakes import CONFIG_ERRORS, explain
from ranger21.system.errors import UserError
from ranger21.system.files import lacks_space
from ranger21.system.memory import lacks_memory
from ranger21.system.project import as_typed
from ranger21.system.wording import printable, reason


@contextlib.contextmanager
def ending_well(again: str, at_once: bool = False, traceback: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Context manager around a command that turns expected errors into an error message and an exit code.

    UserErrors, errors of Hydra, unusable files, full disks and a lack of memory end with exit code 1; Ctrl-C with exit
    code 130 and a hint. If the reader of the output goes away (`| head`), the command ends silently. The output is
    flushed before the end, because Python would hide errors afterwards. Characters that the output's encoding lacks
    are escaped.

    Args:
        again: completes the hint "when run again, this command …" after Ctrl-C.
        at_once: end the process without waiting for other ranks.
        traceback: returns whether to show tracebacks; called when there is an error.
    """
    write_anything()
    try:
        try:
            yield
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # rich suppresses it and exits with 1
                sys.exit(128 + signal.SIGPIPE)
            _flush()
            raise
        _flush()
    except (UserError, *CONFIG_ERRORS) as error:
        if traceback():
            raise
        fail(error, at_once)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        sys.exit(128 + signal.SIGPIPE)
    except (RuntimeError, MemoryError, OSError) as error:
        if lacks_memory(error) and not traceback():
            fail(f"There is not enough memory ({reason(error)}): try smaller batches, or a smaller model.", at_once)
        if not isinstance(error, OSError):
            raise
        full = lacks_space(error)  # these errors may lack a filename
        if traceback() or (error.filename is None and not full):
            raise
        where = "the output" if error.filename is None else error.filename
        advice = "free disk space there, or choose another path" if full else "choose a path that can be used"
        fail(f"{where}: {error.strerror}: {advice}.", at_once)
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped: when run again, this command {again}\n")
        sys.exit(130)
    finally:
        _flush_or_drop()


def write_anything() -> None:
    """Have standard output and error escape characters that their encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _flush_or_drop() -> None:
    """Flush standard output, and drop it if that fails; otherwise Python would fail at exit with another code."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reader_is_gone() -> bool:
    """Return whether standard output is a pipe without a reader; another flush would not show it if unbuffered."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # standard output is missing or not a file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def fail(error: Exception | str, at_once: bool = False) -> NoReturn:
    """Print an error message and exit with code 1; with `at_once`, without waiting for other ranks to end."""
    sentence = as_typed(str(error) if isinstance(error, UserError | str) else explain(error))
    sys.stderr.write(printable(f"error: {sentence}\n"))
    if at_once:
        _flush_or_drop()
        sys.stderr.flush()
        os._exit(1)
    sys.exit(1)
