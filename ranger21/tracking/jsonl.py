"""metrics.jsonl: a run's metrics, one JSON object per line; all other trackers and reports show these values."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.files import not_written, put_back
from ranger21.system.locks import hold
from ranger21.system.reading import open_regular
from ranger21.tracking import Metrics

log = logging.getLogger("ranger21")
LONGEST = 64 * 1024  # the most bytes of a line


class JsonLines:
    """Tracker that appends a line to a file for every call of `log`, without buffering.

    Lines that cannot be written are kept in memory and tried again at the next line or `sync`; a checkpoint saves them
    as `rest`.

    Attributes:
        size: bytes of complete lines in the file; a checkpoint saves it to truncate the file on resume.
    """

    def __init__(self, path: Path, size: int, rest: str = "", on_failure: Callable[[], None] = lambda: None) -> None:
        """Open `path` and truncate it to `size` bytes; lines after the checkpoint will be written again.

        Args:
            path: the path of the file.
            size: bytes to keep, from the checkpoint.
            rest: lines saved in the checkpoint because they could not be written, to be written now.
            on_failure: called the first time that a line cannot be written.

        Raises a UserError if the file cannot be opened or written, or, before truncating, if another process uses it.
        """
        self.path, self._on_failure = path, on_failure
        self._failed: OSError | None = None
        try:
            self._file = open(path, "a+b", buffering=0)
            self._hold()
            self._file.truncate(min(size, os.fstat(self._file.fileno()).st_size))
            self._file.seek(0)
            self._content = bytearray(self._file.readall())  # a few MB for the longest run
        except OSError as error:
            raise UserError(self._told(error)) from error
        self.size = self._synced = len(self._content)
        self._content += rest.encode()
        self._write()
        self.require_written()

    @property
    def rest(self) -> str:
        """Lines that could not be written."""
        return self._content[self.size :].decode()

    def _hold(self) -> None:
        """Lock the file, so that a second process notices this one even if `.lock` was deleted."""
        with contextlib.suppress(OSError):  # the file system has no locks
            if not hold(self._file.fileno()):
                raise UserError(f"{self.path} is being written by another process: wait for it, or stop it.")

    def sync(self) -> None:
        """Write pending lines and flush the file to disk; call it before saving a checkpoint."""
        self._hold()
        self._write()
        try:
            os.fsync(self._file.fileno())
            self._synced = self.size
        except OSError as error:
            self.size = self._synced  # later lines may be lost
            self._fail(error)

    def require_written(self, kept: str = "") -> None:
        """Raise a UserError if lines could not be written.

        Args:
            kept: a clause that says where the lines are kept.
        """
        if self._failed:
            raise UserError(self._told(self._failed, kept)) from self._failed

    def keep(self, path: Path) -> None:
        """Restore the file at `path` if it was removed, replaced or truncated.

        Another file that now has the name is renamed. Raises a UserError if the file cannot be written.
        """
        if not put_back(path, self._file.fileno(), None if self._failed else bytes(self._content)):
            return
        self._file.close()
        self._file = open(path, "a+b", buffering=0)
        self._hold()
        log.warning("%s was removed or changed during the run and has been restored.", path)

    def progress(self, step: int) -> None:
        pass

    def log(self, metrics: Metrics) -> None:
        self._content += json.dumps({name: rounded(value) for name, value in metrics.items()}).encode() + b"\n"
        self._write()

    def _write(self) -> None:
        """Append all pending lines."""
        try:
            if self._failed:  # the failed write may have left part of a line
                self._file.truncate(self.size)
            left = memoryview(bytes(self._content[self.size :]))
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._fail(error)
        else:
            self.size, self._failed = len(self._content), None

    def _fail(self, error: OSError) -> None:
        first, self._failed = self._failed is None, error
        if first:
            self._on_failure()

    def _told(self, error: OSError, kept: str = "") -> str:
        text = not_written(self.path, error)
        return f"{text}; {kept}." if kept else f"{text}."

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def read_rows(path: Path) -> list[Metrics]:
    """Return the rows of metrics.jsonl, without their values that are not finite."""
    with open_regular(path) as file:
        rows = [json.loads(line) for line in file.read().splitlines()]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def require_lines(path: Path, size: int, step: int | None) -> None:
    """Raise a UserError if metrics.jsonl has lost lines since a checkpoint was saved.

    Args:
        path: the path of metrics.jsonl.
        size: its size in bytes when the checkpoint was saved.
        step: the step of its last line at that time; None if the checkpoint does not have it.
    """
    there = path.stat().st_size if path.is_file() else 0
    if there < size:
        state = f"has {there:,} bytes" if there else "is missing or empty"
        state += f", but had {size:,} when the checkpoint was saved"
    elif size and step is not None and not _has_line(path, size, step):
        state = "does not have the lines that it had when the checkpoint was saved"
        state += f" (step {step} does not end at byte {size:,})"
    else:
        return
    raise UserError(f"{path} {state}: restore it and run the same command again, or choose another run_dir=.")


def _has_line(path: Path, size: int, step: int) -> bool:
    """Return whether the first `size` bytes of the file end with a line of this step."""
    with open_regular(path) as file:
        file.seek(max(0, size - LONGEST))
        end = file.read(min(size, LONGEST))
    try:
        row = json.loads(end.splitlines()[-1])
    except (ValueError, RecursionError):
        return False
    return end.endswith(b"\n") and isinstance(row, dict) and row.get("step") == step


def rounded(value: Any) -> Any:
    """Return a float rounded to eight significant digits, or None if it is infinite or NaN, which JSON cannot express.

    Other values are returned unchanged.
    """
    if not isinstance(value, float):
        return value
    return float(f"{value:.8g}") if math.isfinite(value) else None
