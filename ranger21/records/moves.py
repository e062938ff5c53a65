"""Map of the files that moved into packages, so that runs made before the move do not count as runs of other code.

`moves.txt` has a line for each file that the move renamed or rewrote: hash and path before, hash and path after (`-`
before for a new file). The move changed only imports and names. For a file that had another hash before the move,
only the path is mapped, and it still counts as changed.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

Mark = TypeVar("Mark", str, str | None)  # a file's hash; None for a deleted file


class Move(NamedTuple):
    """Hash and path of a file before and after the move."""

    mark: str
    name: str
    new_mark: str
    new_name: str


@functools.cache
def moves() -> list[Move]:
    """Return the lines of `moves.txt`."""
    lines = Path(__file__).with_name("moves.txt").read_text().splitlines()
    return [Move(*line.split()) for line in lines]


@functools.cache
def gone() -> frozenset[str]:
    """Return the paths at which there is no longer a file."""
    return frozenset(move.name for move in moves() if move.name != "-") - {move.new_name for move in moves()}


def named_as_now(files: Mapping[str, Mark]) -> dict[str, Mark]:
    """Return the files' hashes under their current paths, for code from before or after the move."""
    names = dict[str, str]()
    for move in moves():
        names.setdefault(move.name, move.new_name)  # the first line is the file with most of the content
    return {names[name] if name in gone() else name: mark for name, mark in files.items()}


def as_now(files: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes that all files would have if the code had only moved; hashes after the move are unchanged."""
    if not gone() & files.keys():
        return dict(files)
    known = {(move.name, move.mark) for move in moves() if files.get(move.name) == move.mark}
    found = named_as_now({name: mark for name, mark in files.items() if (name, str(mark)) not in known})
    new = (move for move in moves() if move.name == "-" or (move.name, move.mark) in known)
    return found | {move.new_name: move.new_mark for move in new}
