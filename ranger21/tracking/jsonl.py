"""metrics.jsonl: one JSON object a line, the truth that everything else is a view of."""

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from ranger21.errors import UserError
from ranger21.tracking import Metrics


class JsonLines:
    """Appends lines to a file, flushed; `size` is what a checkpoint has to remember to cut it back."""

    def __init__(self, path: Path, size: int) -> None:
        """Opens `path` cut back to `size` bytes: what was written after the checkpoint will be written again."""
        self.path = path
        self._file = open(path, "ab")
        if self._file.tell() > size:
            self._file.truncate(size)
            self._file.seek(0, os.SEEK_END)

    @property
    def size(self) -> int:
        return self._file.tell()

    def sync(self) -> None:
        """Puts what was written on the disk, so that no checkpoint is ahead of it."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._full(error) from error

    def progress(self, step: int) -> None:
        pass

    def log(self, metrics: Metrics) -> None:
        line = {name: rounded(value) for name, value in metrics.items()}
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
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


def rounded(value: Any) -> Any:
    """Eight digits of a float; null for what JSON has no word for (infinite, not a number)."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.8g}") if math.isfinite(value) else None
