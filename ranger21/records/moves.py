"""Where the code's files were before they moved into rooms, so that runs of then are not called runs of other code.

`moves.txt` has a line for each file that the move took or rewrote: the hash and path before, the hash and path after
(`-` before: it is new). All of it was imports and names; a file that had another hash before has only its name changed
here, and stays a file that differs.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

Mark = TypeVar("Mark", str, str | None)  # a file's hash; None: it was gone


class Move(NamedTuple):
    """One file before and after."""

    mark: str
    name: str
    new_mark: str
    new_name: str


@functools.cache
def moves() -> list[Move]:
    """Every line of `moves.txt`."""
    lines = Path(__file__).with_name("moves.txt").read_text().splitlines()
    return [Move(*line.split()) for line in lines]


@functools.cache
def gone() -> frozenset[str]:
    """The names that no file has any more."""
    return frozenset(move.name for move in moves() if move.name != "-") - {move.new_name for move in moves()}


def named_as_now(files: Mapping[str, Mark]) -> dict[str, Mark]:
    """Return marks of files under the names that the files have now; of any code, before the move or after it."""
    names = dict[str, str]()
    for move in moves():
        names.setdefault(move.name, move.new_name)  # the first line has the file that keeps most of it
    return {names[name] if name in gone() else name: mark for name, mark in files.items()}


def as_now(files: Mapping[str, str]) -> dict[str, str]:
    """Return what the hashes of a whole code would be now, had it only moved; those of after the move as they are."""
    if not gone() & files.keys():
        return dict(files)
    known = {(move.name, move.mark) for move in moves() if files.get(move.name) == move.mark}
    found = named_as_now({name: mark for name, mark in files.items() if (name, str(mark)) not in known})
    new = (move for move in moves() if move.name == "-" or (move.name, move.mark) in known)
    return found | {move.new_name: move.new_mark for move in new}
