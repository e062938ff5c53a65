"""Argument types for the scripts, and the quoting of commands. Imports no torch."""

import argparse
import difflib
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

PICTURES = (".png", ".svg", ".pdf", ".jpg")  # figure formats that matplotlib writes
PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf|infinity)$)(?:[a-z_/]|\.{1,2}/)[\w/.+:@%-]*", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """Argument parser whose help and errors show commands as the user types them (see `as_typed`)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"prog": as_typed(f"python scripts/{Path(sys.argv[0]).name}")} | options)

    def format_help(self) -> str:
        """Return the help."""
        return as_typed(super().format_help())

    def format_usage(self) -> str:
        """Return the usage line, with which errors begin."""
        return as_typed(super().format_usage())

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is not among the choices of an argument, and name the nearest one."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            near = difflib.get_close_matches(str(value), map(str, action.choices or ()), n=1, cutoff=0.75)
            raise argparse.ArgumentError(
                action, f"{error.message}. Did you mean {near[0]}?" if near else error.message
            ) from error

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Print a message and exit."""
        super().exit(status, message and as_typed(message))


def as_path(text: str) -> Path:
    """Parse the path of a file or folder; refuse an empty one, which would mean the current folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("the path is empty: write . for the current folder")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: this home folder does not exist") from error


def as_input(text: str) -> Path:
    """Parse the path of a file to read; refuse one that does not exist."""
    place = as_path(text)
    if not os.path.lexists(place):
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return place


def as_folder(text: str) -> Path:
    """Parse the path of an output folder; refuse a file or a run directory."""
    place = as_path(text)
    _require_folder(place)
    if (place / "config.yaml").exists() or (place / "checkpoints").is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a run directory: choose another folder")
    return place


def as_file(*suffixes: str) -> Callable[[str], Path]:
    """Return the type of an argument that names an output file, with one of the suffixes if any are given."""

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
    """Raise ArgumentTypeError if `place`, or its nearest existing parent, is not a folder."""
    there = next((folder for folder in (place, *place.parents) if os.path.lexists(folder)), place)
    if os.path.lexists(there) and not there.is_dir():
        raise argparse.ArgumentTypeError(f"'{there}' is not a folder")


def as_whole(low: int = 1, high: int = 2**31) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number, `low` <= number < `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", text.strip()) or not low <= int(text) < high:
            raise argparse.ArgumentTypeError(f"{text} is invalid: it must be a whole number from {low} to {high - 1}")
        return int(text)

    return read


def as_positive(text: str) -> float:
    """Parse a finite number above 0."""
    number = _number(text)
    if not 1e-38 < number < 3.4e38:  # the range of float32
        raise argparse.ArgumentTypeError(f"{text} is invalid: it must be a finite number above 0")
    return number


def as_seconds(text: str) -> float:
    """Parse a number of seconds from 1 to 1e9."""
    number = _number(text)
    if not 1 <= number <= 1e9:
        raise argparse.ArgumentTypeError(f"{text} is invalid: it must be a number of seconds from 1 to 1e9")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def expand(pattern: str, remedy: str) -> list[Path]:
    """Return the paths that an argument names, directly or as a glob.

    Args:
        pattern: the argument.
        remedy: what the user can do, for the error message.

    Raises a UserError if there is no such path.
    """
    if not pattern:
        raise UserError(f"the path is empty: {remedy}.")
    pattern = str(Path(pattern).expanduser()) if pattern.startswith("~") else pattern
    if Path(pattern).exists():
        return [Path(pattern)]
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if not matches:
        raise UserError(f"{pattern} does not exist: {remedy}.")
    return matches


def setting(key: str, text: Any) -> str:
    """Return KEY=TEXT for train.py, with the text in double quotes if Hydra's grammar requires them."""
    value = str(text)
    if not PLAIN.fullmatch(value):
        value = '"' + re.sub(r'(\\*)("|\Z)', lambda m: m[1] * 2 + (m[2] and '\\"'), value) + '"'
    return f"{key}={value}"
