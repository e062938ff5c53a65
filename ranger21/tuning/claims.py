"""Who has which trial: locks that a worker holds while it lives, and that fall to the next one when it dies."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ranger21.system.locks import take

FOLDER = ".claims"  # of the locks, beside the runs
PAUSE = 0.05  # seconds between two tries


class Claims:
    """The trials of this worker, each a lock on an empty file in `folder`. Where there are no locks, all are free."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, int] = {}

    @property
    def any(self) -> bool:
        """Whether this worker has a trial."""
        return bool(self._held)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Let one worker at a time look for what is next."""
        while (descriptor := self._lock("turn")) is None:
            time.sleep(PAUSE)
        try:
            yield
        finally:
            os.close(descriptor)

    def take(self, name: str) -> bool:
        """Claim what has this name until it is released or this process ends; False if another worker has it."""
        if name in self._held:
            return False
        descriptor = self._lock(name)
        if descriptor is None:
            return False
        self._held[name] = descriptor
        return True

    def release(self, name: str) -> None:
        """Let others have it."""
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
