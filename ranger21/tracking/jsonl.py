"""metrics.jsonl: one JSON object a line, the truth that everything else is a view of."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.files import put_back
from ranger21.system.locks import hold
from ranger21.system.reading import open_regular
from ranger21.tracking import Metrics

log = logging.getLogger("ranger21")
LONGEST = 64 * 1024  # bytes of a line


class JsonLines:
    """Appends lines to a file, at once.

    What cannot be written waits, for the next line or `sync`, and then for the checkpoint to keep it.

    Attributes:
        size: of the file, in bytes, as far as it has whole lines: what a checkpoint has to remember to cut it back.
    """

    def __init__(self, path: Path, size: int, rest: str = "", on_failure: Callable[[], None] = lambda: None) -> None:
        """Opens `path` cut back to `size` bytes: what was written after the checkpoint will be written again.

        Args:
            rest: lines that the checkpoint has kept, to be written now.
            on_failure: called when a line cannot be written, the first time.

        Raises a UserError if the file cannot be opened or written, or if another process holds it: then nothing is cut.
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
        """The lines that the file lacks, because they could not be written."""
        return self._content[self.size :].decode()

    def _hold(self) -> None:
        """Locks the file: one who comes in by a deleted `.lock` sees by it that the run goes on."""
        with contextlib.suppress(OSError):  # no locks here
            if not hold(self._file.fileno()):
                raise UserError(f"{self.path} is being written by another process: wait for it, or stop it.")

    def sync(self) -> None:
        """Puts what was written on the disk, so that no checkpoint is ahead of it."""
        self._hold()
        self._write()
        try:
            os.fsync(self._file.fileno())
            self._synced = self.size
        except OSError as error:
            self.size = self._synced  # what was written since may be lost
            self._fail(error)

    def require_written(self, kept: str = "") -> None:
        """Raises a UserError if the file lacks lines. `kept` says where they are, as a clause."""
        if self._failed:
            raise UserError(self._told(self._failed, kept)) from self._failed

    def keep(self, path: Path) -> None:
        """Write the file anew if `path` has not what was written any more: it was removed, replaced or cut.

        What has the name meanwhile gets another one. Raises a UserError if the file cannot be written.
        """
        if not put_back(path, self._file.fileno(), None if self._failed else bytes(self._content)):
            return
        self._file.close()
        self._file = open(path, "a+b", buffering=0)
        self._hold()
        log.warning("%s was removed or changed while the run went on: it is written anew.", path)

    def progress(self, step: int) -> None:
        pass

    def log(self, metrics: Metrics) -> None:
        self._content += json.dumps({name: rounded(value) for name, value in metrics.items()}).encode() + b"\n"
        self._write()

    def _write(self) -> None:
        """Appends what the file lacks, wholly or not at all."""
        try:
            if self._failed:  # and may have written half a line
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
        text = f"{self.path} could not be written ({error.strerror}): make room and run the same command again"
        return f"{text}; {kept}." if kept else f"{text}."

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def require_lines(path: Path, size: int, step: int | None) -> None:
    """Raise a UserError if metrics.jsonl lacks what it had when a checkpoint was saved.

    `size`: in bytes; `step`: of its last line, None where a checkpoint does not say.
    """
    there = path.stat().st_size if path.is_file() else 0
    if there < size:
        state = f"has {there:,} bytes" if there else "is not there or empty"
        state += f", and had {size:,} when the checkpoint was saved"
    elif size and step is not None and not _has_line(path, size, step):
        state = f"has other lines than when the checkpoint was saved (byte {size:,} is not the end of step {step}'s)"
    else:
        return
    raise UserError(f"{path} {state}: put it back and run the same command again, or choose another run_dir=.")


def _has_line(path: Path, size: int, step: int) -> bool:
    """Whether the first `size` bytes of the file end with a line of this step."""
    with open_regular(path) as file:
        file.seek(max(0, size - LONGEST))
        end = file.read(min(size, LONGEST))
    try:
        row = json.loads(end.splitlines()[-1])
    except (ValueError, RecursionError):
        return False
    return end.endswith(b"\n") and isinstance(row, dict) and row.get("step") == step


def rounded(value: Any) -> Any:
    """Eight digits of a float; null for what JSON has no word for (infinite, not a number)."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.8g}") if math.isfinite(value) else None
