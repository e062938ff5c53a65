"""How a command ends: with a sentence for what a user can mend, and never in the middle of its output."""

import contextlib
import errno
import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from ranger21.config.mistakes import CONFIG_ERRORS, explain
from ranger21.system.errors import UserError
from ranger21.system.memory import lacks_memory
from ranger21.system.project import as_typed
from ranger21.system.wording import printable, reason


@contextlib.contextmanager
def ending_well(again: str, at_once: bool = False, traceback: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Let a mistake of the user's end a command in a sentence, Ctrl-C with exit code 130 and what it does `again`.

    So does a file or folder that cannot be used, or a full disk. A reader of the output that goes away (`| head`) ends
    it silently. All that was printed is written before the end: Python would do that afterwards, where nothing is told.
    What the output's encoding lacks is written as `\\xe4`.

    Args:
        again: what the same command does next time, after "the same command again".
        at_once: whether a mistake ends the process without waiting for other ranks.
        traceback: whether a mistake's traceback is wanted; asked when there is one.
    """
    write_anything()
    try:
        try:
            yield
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):  # rich has silenced it, and exits with 1
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
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)  # where something is written, which the error does not name
        if traceback() or (error.filename is None and not full):
            raise
        where = "the output" if error.filename is None else error.filename
        fail(f"{where}: {error.strerror}: give one that can be used, or make room there.", at_once)
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped: the same command again {again}\n")
        sys.exit(130)
    finally:
        _flush_or_drop()


def write_anything() -> None:
    """Let standard output and error take any text: what their encoding lacks is escaped, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _flush_or_drop() -> None:
    """What nobody takes is dropped: Python would complain of it when it exits, with a code of its own."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reader_is_gone() -> bool:
    """Ask whether standard output is a pipe that nobody reads. Flushing again does not tell if it is not buffered."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # there is none, or it is no file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def fail(error: Exception | str, at_once: bool = False) -> NoReturn:
    """End the process with exit code 1 and the error's sentence; `at_once`, without waiting for other ranks to end."""
    sentence = as_typed(str(error) if isinstance(error, UserError | str) else explain(error))
    sys.stderr.write(printable(f"error: {sentence}\n"))
    if at_once:
        _flush_or_drop()
        sys.stderr.flush()
        os._exit(1)
    sys.exit(1)
