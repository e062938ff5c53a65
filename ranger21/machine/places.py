"""Where a check may write: on the disk that takes the runs, if that can be written. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ranger21.config import Config
from ranger21.system.processes import temporary_folder

CONTENTS = {"run", "kept", "train.txt"}  # of the working folder; one that a killed process left has nothing else


def disk_of(config: Config) -> Path:
    """Return the folder that is there already in which the run directory is, or will be."""
    whole = Path(config.run_dir or config.outputs).absolute()
    return next(folder for folder in (whole, *whole.parents) if folder.is_dir())


@contextlib.contextmanager
def working(config: Config, otherwise: Path) -> Iterator[Path]:
    """A folder on the disk of the runs, removed at the end; in `otherwise` where that cannot be written."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(disk_of(config) / "check-machine", CONTENTS))
        except OSError:  # the check of the disk says why
            folder = otherwise / "work"
            folder.mkdir()
        yield folder
