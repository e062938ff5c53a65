"""Locks on trials. A worker holds them while it is alive; when it dies, others can claim its trials."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ranger21.system.locks import take

FOLDER = ".claims"  # the folder of the locks, next to the runs
PAUSE = 0.05  # seconds between attempts


class Claims:
    """The trials that this worker has claimed, each by a lock on an empty file in `folder`.

    On file systems without locks, every claim succeeds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, int] = {}

    @property
    def any(self) -> bool:
        """Whether this worker holds a claim."""
        return bool(self._held)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Enter a section that one worker at a time can be in, such as choosing the next trial."""
        while (descriptor := self._lock("turn")) is None:
            time.sleep(PAUSE)
        try:
            yield
        finally:
            os.close(descriptor)

    def take(self, name: str) -> bool:
        """Claim a name until it is released or this process ends. Return False if it is claimed already."""
        if name in self._held:
            return False
        descriptor = self._lock(name)
        if descriptor is None:
            return False
        self._held[name] = descriptor
        return True

    def release(self, name: str) -> None:
        """Release a claim."""
        os.close(self._held.pop(name))

    def _lock(self, name: str) -> int | None:
        path = self.folder / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            if not take(descriptor):
                os.close(descriptor)
                return None
        return descriptor
