"""metrics.jsonl: one JSON object a line, the truth that everything else is a view of."""

import contextlib
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

from ranger21.errors import UserError
from ranger21.files import put_back
from ranger21.locks import hold
from ranger21.tracking import Metrics

log = logging.getLogger("ranger21")
LONGEST = 64 * 1024  # bytes of a line


class JsonLines:
    """Appends lines to a file, flushed; `size` is what a checkpoint has to remember to cut it back."""

    def __init__(self, path: Path, size: int) -> None:
        """Opens `path` cut back to `size` bytes: what was written after the checkpoint will be written again.

        Raises a UserError, and cuts nothing, if another process has the file open in this way.
        """
        self.path = path
        self._file = open(path, "a+b")
        self._hold()
        if self._file.tell() > size:
            self._file.truncate(size)
        self._file.seek(0)
        self._content = bytearray(self._file.read())  # a few MB for the longest run

    @property
    def size(self) -> int:
        return len(self._content)

    def _hold(self) -> None:
        """Locks the file: one who comes in by a deleted `.lock` sees by it that the run goes on."""
        with contextlib.suppress(OSError):  # no locks here
            if not hold(self._file.fileno()):
                raise UserError(f"{self.path} is being written by another process: wait for it, or stop it.")

    def sync(self) -> None:
        """Puts what was written on the disk, so that no checkpoint is ahead of it."""
        self._hold()
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._full(error) from error

    def keep(self, path: Path) -> None:
        """Write the file anew if `path` has not what was written any more: it was removed, replaced or cut.

        What has the name meanwhile gets another one. Raises a UserError if the file cannot be written.
        """
        if not put_back(path, self._file.fileno(), bytes(self._content)):
            return
        self._file.close()
        self._file = open(path, "a+b")
        self._hold()
        log.warning("%s was removed or changed while the run went on: it is written anew.", path)

    def progress(self, step: int) -> None:
        pass

    def log(self, metrics: Metrics) -> None:
        line = json.dumps({name: rounded(value) for name, value in metrics.items()}).encode() + b"\n"
        self._content += line
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> UserError:
        return UserError(
            f"{self.path} could not be written ({error.strerror}): make room and run the same command again; it goes "
            "on from the last checkpoint."
        )

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # told already, by the write that failed
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
    with open(path, "rb") as file:
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
