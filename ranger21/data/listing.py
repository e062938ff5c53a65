"""What lies in a folder and in those below it: images with their sizes, and what is none. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ranger21.data.layout import is_folder
from ranger21.data.names import is_hidden, is_image
from ranger21.system.errors import UserError

Image = tuple[str, int]  # its path, and its size in bytes: -1 for a link that leads nowhere
State = tuple[int, int, int, int]  # of a folder: times of modification and of change in nanoseconds, inode, bytes
DEEPEST = 100  # folders within one another


@dataclass
class Listing:
    """Files and folders by their paths below a folder.

    Attributes:
        images: in the order of torchvision's ImageFolder.
        states: each folder's before it was read; a folder's path ends in a slash, the top's is empty.
        hidden: files and folders that are passed over.
        others: files that are no images by their names.
    """

    images: list[Image] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def walk(top: Path) -> Listing:
    """Everything below a class folder. Raises a UserError for what cannot be read, and for a link to a folder above."""
    listing = Listing()
    for below, folder in sorted(_folders(top, "", ()), key=lambda found: found[0].rstrip("/")):
        listing.states[below] = folder.state
        listing.images += [(below + name, size) for name, size in sorted(folder.images)]
        listing.hidden += [below + name for name in folder.hidden]
        listing.others += [below + name for name in folder.others]
    return listing


def state_of(state: os.stat_result) -> State:
    """Return what tells whether a folder has changed: rsync, tar and copytree set its first time, nobody the second."""
    return state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_size


def size_of(file: os.DirEntry[str] | Path) -> int:
    """-1 if it cannot be told: a broken link is an error when it is read."""
    try:
        return file.stat().st_size
    except OSError:
        return -1


@dataclass
class FolderEntries:
    """The names in one folder."""

    state: State = (0, 0, 0, 0)
    images: list[Image] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def sorted_out(place: Path) -> FolderEntries:
    """The entries of a folder by what they are. Raises an OSError if it cannot be read."""
    found = FolderEntries()
    with os.scandir(place) as entries:
        for entry in entries:
            name = entry.name
            if is_hidden(name):
                found.hidden.append(name)
            elif is_folder(entry):
                found.folders.append(name)
            elif is_image(name) and (entry.is_symlink() or entry.is_file()):
                found.images.append((name, size_of(entry)))
            else:
                found.others.append(name)
    return found


def _folders(top: Path, below: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, FolderEntries]]:
    """The folders from `top` downwards, each with its path below it."""
    place = top / below
    try:
        state = place.stat()
        if (state.st_dev, state.st_ino) in above:
            raise UserError(f"{place} is a symbolic link to a folder that holds it: remove the link.")
        if len(above) > DEEPEST:
            raise UserError(f"{place} lies more than {DEEPEST} folders deep: give each class a folder of images.")
        folder = sorted_out(place)
    except OSError as error:
        raise UserError(f"{place} cannot be read ({error.strerror}): see to its permissions.") from error
    folder.state = state_of(state)
    yield below, folder
    for name in sorted(folder.folders):
        yield from _folders(top, f"{below}{name}/", (*above, (state.st_dev, state.st_ino)))
