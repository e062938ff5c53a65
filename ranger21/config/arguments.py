"""What the arguments of commands name, and how commands are written that can be pasted. Imports no torch."""

import argparse
import glob
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ranger21.system.errors import UserError
from ranger21.system.project import as_typed

PICTURES = (".png", ".svg", ".pdf", ".jpg")  # that matplotlib writes
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf|infinity)$)(?:[a-z_/]|\.{1,2}/)[\w/.+:@%-]*", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """The parser of a script, whose help and errors name commands as they are typed here (`as_typed`)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"prog": as_typed(f"python scripts/{Path(sys.argv[0]).name}")} | options)

    def format_help(self) -> str:
        """Return the help."""
        return as_typed(super().format_help())

    def format_usage(self) -> str:
        """Return the line of the help that errors begin with."""
        return as_typed(super().format_usage())

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the process, with a message."""
        super().exit(status, message and as_typed(message))


def as_path(text: str) -> Path:
    """The type of an argument that names a file or folder; an empty one would be the current folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("an empty path names nothing: the current folder is .")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: there is no such home folder") from error


def as_folder(text: str) -> Path:
    """The type of an argument that names a folder to write into: not a file, nor a run's, whose files are its own."""
    place = as_path(text)
    _require_folder(place)
    if (place / "config.yaml").exists() or (place / "checkpoints").is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a run directory: choose a folder of its own")
    return place


def as_file(*suffixes: str) -> Callable[[str], Path]:
    """The type of an argument that names a file to write, with one of the suffixes if there are any."""

    def read(text: str) -> Path:
        place = as_path(text)
        if place.is_dir():
            raise argparse.ArgumentTypeError(f"{text!r} is a folder: name a file")
        _require_folder(place.parent)
        if suffixes and place.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(suffixes)}")
        return place

    return read


def _require_folder(place: Path) -> None:
    """Raises if `place`, or what there is of the folders above it, is something else than a folder."""
    there = next((folder for folder in (place, *place.parents) if os.path.lexists(folder)), place)
    if os.path.lexists(there) and not there.is_dir():
        raise argparse.ArgumentTypeError(f"'{there}' is not a folder")


def as_whole(low: int = 1, high: int = 2**31) -> Callable[[str], int]:
    """The type of an argument that is a whole number, `low` <= number < `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text.strip()) or not low <= int(text) < high:
            raise argparse.ArgumentTypeError(f"{text} is not possible: it must be a whole number, {low} to {high - 1}")
        return int(text)

    return read


def as_positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    number = _number(text)
    if not 1e-38 < number < 3.4e38:  # what float32 holds
        raise argparse.ArgumentTypeError(f"{text} is not possible: it must be a finite number above 0")
    return number


def as_seconds(text: str) -> float:
    """The type of an argument that is a number of seconds, 1 to 1e9: what a process can wait."""
    number = _number(text)
    if not 1 <= number <= 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not possible: it must be seconds, 1 to 1e9")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


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
