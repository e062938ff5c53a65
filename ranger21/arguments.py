"""What the arguments of commands name."""

import glob
from pathlib import Path

from ranger21.errors import UserError


def expand(pattern: str, remedy: str) -> list[Path]:
    """The paths that an argument names, itself or as a glob. Raises a UserError with `remedy` if there are none."""
    if not pattern:
        raise UserError(f"an empty path names nothing: {remedy}.")
    if Path(pattern).exists():
        return [Path(pattern)]
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if not matches:
        raise UserError(f"nothing is called {pattern}: {remedy}.")
    return matches
