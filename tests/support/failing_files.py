"""Files that cannot be opened for a while, as on a network file system."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_FAILING: dict[str, float] = {}  # by path, how many more times opening it must fail


def _open_fails(event: str, arguments: tuple) -> None:
    if event == "open" and _FAILING.get(str(arguments[0]), 0) > 0:
        _FAILING[str(arguments[0])] -= 1
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(arguments[0]))


@contextlib.contextmanager
def failing_opens(path: Path, times: float = math.inf) -> Iterator[None]:
    """Make opening an intact file fail `times` times, as on a network file system."""
    if not _FAILING:
        sys.addaudithook(_open_fails)  # audit hooks cannot be removed
    _FAILING[str(path)] = times
    try:
        yield
    finally:
        _FAILING[str(path)] = 0
