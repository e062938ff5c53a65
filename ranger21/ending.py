"""How a command ends: with a sentence for what a user can mend, and never in the middle of its output."""

import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from ranger21.errors import UserError
from ranger21.mistakes import CONFIG_ERRORS, explain


@contextlib.contextmanager
def ending_well(again: str) -> Iterator[None]:
    """A mistake of the user's ends a command in a sentence, Ctrl-C with exit code 130 and what it does `again`.

    So does a file or folder that cannot be used, or a full disk. A reader of the output that goes away (`| head`) ends
    it silently. All that was printed is written before the end: Python would do that afterwards, where nothing is told.
    """
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
        fail(error)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)  # where something is written, which the error does not name
        if error.filename is None and not full:
            raise
        where = "the output" if error.filename is None else error.filename
        fail(f"{where}: {error.strerror}: give one that can be used, or make room there.")
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped: the same command again {again}\n")
        sys.exit(130)
    finally:
        _flush_or_drop()


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
    """Whether standard output is a pipe that nobody reads. Flushing again does not tell if it is not buffered."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # there is none, or it is no file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def fail(error: Exception | str, at_once: bool = False) -> NoReturn:
    """Ends the process with exit code 1 and the error's sentence; `at_once`, without waiting for other ranks to end."""
    sys.stderr.write(f"error: {error if isinstance(error, (UserError, str)) else explain(error)}\n")
    if at_once:
        sys.stderr.flush()
        os._exit(1)
    sys.exit(1)
