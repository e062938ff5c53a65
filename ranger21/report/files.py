"""How the comparison's text files are written: one way for all of them."""

from pathlib import Path
from typing import TextIO


def create(path: Path) -> TextIO:
    """A file for text in UTF-8, lines ending as they are written.

    It takes every string: what UTF-8 cannot say, such as a byte 255 in a directory's name, stands in it as \\udcff.
    """
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
