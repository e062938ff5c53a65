"""Files that are written whole or not at all, and whose format may be newer than this code. Imports no torch."""

import contextlib
import errno
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ranger21.errors import UserError
from ranger21.wording import shown


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a new file's name beside `path`; what is written there takes the place of `path` at the end.

    The new name ends as `path` does, because libraries tell a format by that. After an error `path` is what it was.
    What a link points to is replaced, not the link; what is no regular file (`/dev/stdout`) is written to directly.

    Raises a UserError if the file cannot be written. Errors that are no OSError, as libraries in C++ raise, pass.
    """
    try:
        real = path.resolve()
        if real.exists() and not real.is_file():
            yield real
            return
        new = real.with_name(f".new-{real.name}")
        try:
            yield new
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            os.replace(new, real)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"{path} could not be written ({reason}): make room and run the same command again."
        raise UserError(text) from error


def require_writable(path: Path) -> None:
    """Find out whether `replacing` can write to `path`, but leave it as it is. Raises an OSError if it cannot."""
    real = path.resolve()
    if real.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not real.exists() or real.is_file():
        tempfile.TemporaryFile(dir=real.parent).close()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file (a text as UTF-8) as `replacing` does. Raises a UserError if it cannot be written."""
    with replacing(path) as new:
        new.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def newer(facts: Mapping[str, Any], known: int) -> str | None:
    """Return why a file of a later version cannot be used, as a clause; None if its `format` is `known` or lower.

    A file without a format is of the first.
    """
    number = facts.get("format", 1)
    if isinstance(number, int) and number <= known:
        return None
    return (
        f"the format is {shown(number, str)}, and this version of the project reads up to {known}: use a newer version"
    )


def unused(path: Path) -> Path:
    """The path itself, or with -2, -3, … before its suffix: the first that is not there."""
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], others) if not os.path.lexists(name))
