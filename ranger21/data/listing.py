"""Listing of folders: images with their sizes, and all other files. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ranger21.data.layout import is_folder
from ranger21.data.names import is_hidden, is_image
from ranger21.system.errors import UserError

Image = tuple[str, int]  # path, and size in bytes (-1 for a broken link)
State = tuple[int, int, int, int]  # of a folder: modification and change time in nanoseconds, inode, size in bytes
DEEPEST = 100  # levels of nested folders


@dataclass
class Listing:
    """The content of a folder and its subfolders, by path below the folder.

    Attributes:
        images: Images, in the order of torchvision's ImageFolder.
        states: State of each folder before it was read. A folder's path ends with a slash; the top folder's is empty.
        hidden: Hidden files and folders, which are ignored.
        others: Files without an image extension.
    """

    images: list[Image] = field(default_factory=list)
    states: dict[str, State] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def walk(top: Path) -> Listing:
    """List a class folder with its subfolders.

    Raises:
        UserError: If a folder cannot be read, is nested too deeply, or links to a folder that contains it.
    """
    listing = Listing()
    for below, folder in sorted(_folders(top, "", ()), key=lambda found: found[0].rstrip("/")):
        listing.states[below] = folder.state
        listing.images += [(below + name, size) for name, size in sorted(folder.images)]
        listing.hidden += [below + name for name in folder.hidden]
        listing.others += [below + name for name in folder.others]
    return listing


def state_of(state: os.stat_result) -> State:
    """Return the state that changes with a folder. Programs can set its modification time, but not its change time."""
    return state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_size


def size_of(file: os.DirEntry[str] | Path) -> int:
    """Return the size of a file, or -1 if it is unknown. (Reading a broken link fails later.)"""
    try:
        return file.stat().st_size
    except OSError:
        return -1


@dataclass
class FolderEntries:
    """The entries of one folder, by kind."""

    state: State = (0, 0, 0, 0)
    images: list[Image] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def sorted_out(place: Path) -> FolderEntries:
    """Return the entries of a folder by kind; raise an OSError if it cannot be read."""
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
    """Yield `top` and all its subfolders, each with its path below `top`."""
    place = top / below
    try:
        state = place.stat()
        if (state.st_dev, state.st_ino) in above:
            raise UserError(f"{place} is a symbolic link to a folder that contains it. Remove the link.")
        if len(above) > DEEPEST:
            raise UserError(f"{place} is nested more than {DEEPEST} folders deep. Put each class into one folder.")
        folder = sorted_out(place)
    except OSError as error:
        raise UserError(f"{place} cannot be read ({error.strerror}). Check its permissions.") from error
    folder.state = state_of(state)
    yield below, folder
    for name in sorted(folder.folders):
        yield from _folders(top, f"{below}{name}/", (*above, (state.st_dev, state.st_ino)))
