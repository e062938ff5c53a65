"""Rules for file names: which files are images, which are hidden, and which names are safe to write. No torch."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from ranger21.system.wording import printable

EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".ppm",
    ".bmp",
    ".pgm",
    ".tif",
    ".tiff",
    ".webp",
)  # those of torchvision's ImageFolder
# Files and folders created by operating systems, in lower case. Names that begin with a dot, such as ._img.JPEG (macOS)
# and .ipynb_checkpoints, are hidden as well.
LEFT_BY_SYSTEMS = frozenset(
    [
        "@eadir", "#recycle", "@recycle", "$recycle.bin", "__macosx", "lost+found", "system volume information",
        "thumbs.db", "ehthumbs.db", "desktop.ini",
    ]
)  # fmt: skip
ENDINGS_SHOWN = 5
LONGEST = 255  # bytes, on every common file system
UNFIT = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]|^[A-Za-z]:|^\.{0,2}$")  # separators, control characters, drives, dots


def is_plain(name: object) -> bool:
    """Return whether a value is a safe name of a single file or folder.

    It must have no path separators of any system, no drive, no control characters and at most 255 bytes, and must not
    be `.` or `..`.
    """
    try:
        return isinstance(name, str) and not UNFIT.search(name) and len(os.fsencode(name)) <= LONGEST
    except UnicodeEncodeError:  # a lone UTF-16 surrogate
        return False


def is_image(name: str) -> bool:
    """Return whether a file has the extension of an image."""
    return name.lower().endswith(EXTENSIONS)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or created by an operating system, and therefore ignored."""
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS


def left_out(hidden: list[str], others: list[str], stray: Iterable[str] = ()) -> Iterator[str]:
    """Yield messages about the ignored files of a folder, without the folder's path, which the caller puts in front.

    Args:
        hidden: Hidden files and folders.
        others: Files in class folders that do not have the extension of an image.
        stray: Files outside class folders.
    """
    if hidden:
        what = "file or folder is" if len(hidden) == 1 else "files and folders are"
        yield f"{len(hidden):,} hidden {what} ignored (such as {printable(min(hidden))})"
    if others:
        what = "file without an image extension is" if len(others) == 1 else "files without an image extension are"
        yield f"{len(others):,} {what} ignored ({endings(others)}; such as {printable(min(others))})"
    if stray := sorted(stray):
        what = "file outside class folders is" if len(stray) == 1 else "files outside class folders are"
        yield f"{len(stray):,} {what} ignored ({printable(stray[0])})"


def endings(names: Iterable[str]) -> str:
    """Count file extensions, most frequent first, such as `12 .avif, 1 without one`."""
    counts = Counter(PurePath(name).suffix.lower() or "without one" for name in names)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {printable(ending)}" for ending, count in ordered[:ENDINGS_SHOWN]]
    return ", ".join([*shown, "..."] if len(ordered) > ENDINGS_SHOWN else shown)
