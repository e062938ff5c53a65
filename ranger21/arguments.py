"""What the arguments of commands name, and how commands are written that can be pasted. Imports no torch."""

import argparse
import glob
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranger21.errors import UserError

PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf|infinity)$)(?:[a-z_/]|\.{1,2}/)[\w/.+:@%-]*", re.IGNORECASE)


def as_path(text: str) -> Path:
    """The type of an argument that names a file or folder; an empty one would be the current folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("an empty path names nothing: the current folder is .")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: there is no such home folder") from error


def as_whole(low: int = 1, high: int = 2**31) -> Callable[[str], int]:
    """The type of an argument that is a whole number, `low` <= number < `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text.strip()) or not low <= int(text) < high:
            raise argparse.ArgumentTypeError(f"{text} is not possible: it must be a whole number, {low} to {high - 1}")
        return int(text)

    return read


def as_positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 3.4e38:
        raise argparse.ArgumentTypeError(f"{text} is not possible: it must be a finite number above 0")
    return number


def expand(pattern: str, remedy: str) -> list[Path]:
    """The paths that an argument names, itself or as a glob. Raises a UserError with `remedy` if there are none."""
    if not pattern:
        raise UserError(f"an empty path names nothing: {remedy}.")
    pattern = str(Path(pattern).expanduser()) if pattern.startswith("~") else pattern
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
