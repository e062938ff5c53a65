"""Files that are written whole or not at all, and whose format may be newer than this code. Imports no torch."""

import contextlib
import errno
import itertools
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.locks import take
from ranger21.system.wording import shown

NEW = re.compile(r"\.new-[0-9a-f]{8}-(.+)", re.DOTALL)  # the name of what is not whole yet, before the end of its own


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a new file's name beside `path`; what is written there takes the place of `path` at the end.

    The new name is this process's alone, and ends as `path` does, because libraries tell a format by that. The file is
    there, empty, and is to be written in place. After an error `path` is what it was; what killed processes left of
    the same name is removed.

    What a link points to is replaced, not the link; what is no regular file (`/dev/stdout`) is written to directly.

    Raises a UserError if the file cannot be written. Errors that are no OSError, as libraries in C++ raise, pass.
    """
    try:
        real = path.resolve()
        if real.exists() and not real.is_file():
            yield real
            return
        sweep(real.parent, real.name)
        new, descriptor = _create(real)
        try:
            yield new
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            os.replace(new, real)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        reason = error.strerror or str(error)
        text = f"{path} could not be written ({reason}): make room and run the same command again."
        raise UserError(text) from error


def _create(path: Path) -> tuple[Path, int]:
    """Create a file beside `path` that is locked as long as the descriptor is open: `sweep` leaves it alone."""
    while True:
        new = path.with_name(f".new-{secrets.token_hex(4)}-{_end(path.name)}")
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            free = take(descriptor)
        except OSError:  # no locks here, and so nobody sweeps
            return new, descriptor
        if free and os.fstat(descriptor).st_nlink:
            return new, descriptor
        os.close(descriptor)  # another process swept it before it was locked


def _end(name: str) -> str:
    """As much of a name as leaves room for a prefix, whatever its characters: no name has more than 255 bytes."""
    return name[-60:]


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what processes that were killed in `replacing` left in a folder; with `name`, what they left of that file.

    What a living process writes, on this machine or on another, is locked and stays. So does everything where the file
    system has no locks, and what cannot be removed.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = NEW.fullmatch(entry.name)
            wanted = found and (name is None or found[1] == _end(name))
            if not wanted or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                descriptor = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    if take(descriptor):
                        Path(entry.path).unlink()
                finally:
                    os.close(descriptor)


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


def put_back(path: Path, descriptor: int, content: bytes | None = None) -> bool:
    """Write a file anew at `path` if `path` is no name of the open file any more, or has not as much as was written.

    Args:
        content: what was written; None: what is in the open file.

    Returns whether it was so. What has the name meanwhile gets another one. Raises a UserError if the file cannot be
    written.
    """
    own = os.fstat(descriptor)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), own) and (content is None or own.st_size == len(content)):
            return False
        path.rename(unused(path.with_name(f"{path.stem}.other{path.suffix}")))
    write_atomically(path, os.pread(descriptor, own.st_size, 0) if content is None else content)
    return True


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
