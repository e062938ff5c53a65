"""Files of a pack are written under a hidden name and renamed when they are on the disk."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ranger21.data.pack import FACTS
from ranger21.system.errors import UserError
from ranger21.system.files import not_written


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.tmp")
    new.write_text(json.dumps(value, indent=2 if path.name == FACTS else None))
    commit(new, path)


def commit(new: Path, path: Path) -> None:
    """Flush a new file to the disk and rename it to `path`."""
    with open(new, "rb") as file:
        os.fsync(file.fileno())
    os.replace(new, path)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Convert errors of the file system into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{not_written(path, error)}, which continues where it stopped.") from error


@contextmanager
def removed_unless_renamed(path: Path) -> Iterator[None]:
    """Remove an unfinished file after an error."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
