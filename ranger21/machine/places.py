"""Temporary folders of the checks, on the disk of the runs if that is writable. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ranger21.config import Config
from ranger21.system.processes import temporary_folder

CONTENTS = {"run", "kept", "train.txt"}  # the names that a working folder can contain


def disk_of(config: Config) -> Path:
    """Return the nearest existing folder that contains, or will contain, the run directory."""
    whole = Path(config.run_dir or config.outputs).absolute()
    return next(folder for folder in (whole, *whole.parents) if folder.is_dir())


@contextlib.contextmanager
def working(config: Config, otherwise: Path) -> Iterator[Path]:
    """Yield a folder on the disk of the runs, or in `otherwise` if that is not writable; remove it at the end."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(disk_of(config) / "check-machine", CONTENTS))
        except OSError:  # the disk check reports it
            folder = otherwise / "work"
            folder.mkdir()
        yield folder
