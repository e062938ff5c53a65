"""What the arguments of commands name, and how commands are written that can be pasted. Imports no torch."""

import glob
import re
import shlex
from pathlib import Path
from typing import Any

from ranger21.errors import UserError

PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf|infinity)$)(?:[a-z_/]|\.{1,2}/)[\w/.+:@%-]*", re.IGNORECASE)


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


def setting(key: str, text: Any) -> str:
    """KEY=TEXT as train.py reads it, the text in double quotes where Hydra's grammar would read anything else."""
    value = str(text)
    if not PLAIN.fullmatch(value):
        value = '"' + re.sub(r'(\\*)("|\Z)', lambda m: m[1] * 2 + (m[2] and '\\"'), value) + '"'
    return f"{key}={value}"


def command(*words: Any) -> str:
    """A command line that can be pasted into a shell, whatever is in its words."""
    return shlex.join(map(str, words))
