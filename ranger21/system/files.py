"""Atomic file writes and checks of file format versions. Imports no torch."""

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

NEW = re.compile(r"\.new-[0-9a-f]{8}-(.+)", re.DOTALL)  # names of unfinished files: prefix, then the final name's end


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new, empty file beside `path` that replaces `path` when the context ends.

    Write to that file in place. Its name is unique to this process and has the suffix of `path`, from which libraries
    infer the format. After an error `path` is unchanged. Files that killed processes left here for `path` are removed.

    If `path` is a symbolic link, its target is replaced. If it is not a regular file (`/dev/stdout`), `path` itself is
    yielded.

    Raises a UserError if the file cannot be written. Errors other than OSError, such as those of C++ libraries, are
    not converted.
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
        raise UserError(f"{not_written(path, error)}.") from error


def lacks_space(error: BaseException) -> bool:
    """Return whether a write failed for lack of space: a full disk, an exhausted quota, or a limit on file sizes."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def remedy(error: BaseException) -> str:
    """Return what to do about a failed write, as an imperative without a full stop."""
    if lacks_space(error):
        return "free disk space"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make it writable"
    return "remove the cause"


def not_written(path: Path, error: OSError) -> str:
    """Return the message for a file that could not be written, without its full stop."""
    why = error.strerror or str(error)
    return f"{path} could not be written ({why}): {remedy(error)} and run the same command again"


def _create(path: Path) -> tuple[Path, int]:
    """Create a file beside `path` and lock it, which protects it from `sweep`; return its path and descriptor."""
    while True:
        new = path.with_name(f".new-{secrets.token_hex(4)}-{_end(path.name)}")
        descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            free = take(descriptor)
        except OSError:  # the file system has no locks; `sweep` removes nothing there
            return new, descriptor
        if free and os.fstat(descriptor).st_nlink:
            return new, descriptor
        os.close(descriptor)  # another process removed the file before it was locked


def _end(name: str) -> str:
    """Return the last 60 characters of a name: with the prefix they fit into 255 bytes whatever the characters."""
    return name[-60:]


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove unfinished files that killed processes left in a folder; with `name`, only those meant for that file.

    Files that a living process is writing, on any machine, are locked and stay. Where the file system has no locks,
    nothing is removed. Files that cannot be removed stay, without an error.
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
    """Raise an OSError if `replacing` cannot write to `path`; change nothing."""
    real = path.resolve()
    if real.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not real.exists() or real.is_file():
        tempfile.TemporaryFile(dir=real.parent).close()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file (strings as UTF-8) through `replacing`. Raises a UserError if it cannot be written."""
    with replacing(path) as new:
        new.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def put_back(path: Path, descriptor: int, content: bytes | None = None) -> bool:
    """Restore the open file at `path` if `path` no longer names it, or if its size is not that of `content`.

    Another file that now has the name is renamed.

    Args:
        descriptor: the descriptor of the open file.
        content: expected content; None uses the content of the open file.

    Returns whether the file had to be restored. Raises a UserError if it cannot be written.
    """
    own = os.fstat(descriptor)
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), own) and (content is None or own.st_size == len(content)):
            return False
        path.rename(unused(path.with_name(f"{path.stem}.other{path.suffix}")))
    write_atomically(path, os.pread(descriptor, own.st_size, 0) if content is None else content)
    return True


def newer(facts: Mapping[str, Any], known: int) -> str | None:
    """Return a clause that says that a file's `format` is newer than `known`; None if it is not.

    A file without `format` has format 1.
    """
    number = facts.get("format", 1)
    if isinstance(number, int) and number <= known:
        return None
    return (
        f"the format is {shown(number, str)}, and this version of the project reads up to {known}: use a newer version"
    )


def unused(path: Path) -> Path:
    """Return the first path that does not exist: `path` itself, or with -2, -3, … before its suffix."""
    others = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], others) if not os.path.lexists(name))
