"""What names say: which files are images, what is neither an image nor a class (the lists are here alone), and which
names may become those of files.

Imports no torch.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from ranger21.system.wording import printable

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's ImageFolder's
# What systems leave beside a user's files, in lower case; beside whatever begins with a dot, such as ._img.JPEG (of
# macOS) and .ipynb_checkpoints.
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
    """Return whether a value from a file is the plain name of one file or folder, and leads nowhere else.

    No separator of any system, no drive, neither `.` nor `..`, no control character, and not too long.
    """
    try:
        return isinstance(name, str) and not UNFIT.search(name) and len(os.fsencode(name)) <= LONGEST
    except UnicodeEncodeError:  # half of a pair of UTF-16
        return False


def is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is not data of the user's, whatever is in it."""
    return name.startswith(".") or name.lower() in LEFT_BY_SYSTEMS


def left_out(hidden: list[str], others: list[str], stray: Iterable[str] = ()) -> Iterator[str]:
    """Sentences about what is not taken for images, without their subject, the folder in which it lies.

    Args:
        hidden: files and folders that `is_hidden` tells.
        others: files in class folders that are no images by their names.
        stray: files in no class folder.
    """
    if hidden:
        what = "file or folder is" if len(hidden) == 1 else "files and folders are"
        yield f"{len(hidden):,} hidden {what} passed over (such as {printable(min(hidden))})"
    if others:
        what = "file is no image by its name and" if len(others) == 1 else "files are no images by their names and"
        verb = "is" if len(others) == 1 else "are"
        yield f"{len(others):,} {what} {verb} left out ({endings(others)}; such as {printable(min(others))})"
    if stray := sorted(stray):
        what, verb = ("file lies", "is") if len(stray) == 1 else ("files lie", "are")
        yield f"{len(stray):,} {what} in no class folder and {verb} left out ({printable(stray[0])})"


def endings(names: Iterable[str]) -> str:
    """How many files have which ending, the commonest first: `12 .avif, 1 without one`."""
    counts = Counter(PurePath(name).suffix.lower() or "without one" for name in names)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {printable(ending)}" for ending, count in ordered[:ENDINGS_SHOWN]]
    return ", ".join([*shown, "..."] if len(ordered) > ENDINGS_SHOWN else shown)
