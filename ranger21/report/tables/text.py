"""Write text files that accept any string, and build Markdown tables."""

import contextlib
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from ranger21.system.files import replacing
from ranger21.system.wording import printable

MARKUP = re.compile(r"[\\`*\[\]<>|$&]|~(?=~)|^#|(?<![^\W_])_|_(?![^\W_])")


@contextlib.contextmanager
def create(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file for writing, without newline translation. The file appears once it is complete.

    It accepts every string: characters that UTF-8 cannot encode, such as a byte 255 in a directory's name, are written
    as \\udcff.
    """
    with replacing(path) as new, new.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """Return the lines of a Markdown table, with all cells escaped. The columns in `right` are right-aligned."""
    rule = ["---:" if column in right else "---" for column in range(len(heads))]
    first, *told = [[_cell(text) for text in row] for row in (heads, *rows)]
    return [f"| {' | '.join(line)} |" for line in (first, rule, *told)]


def _cell(text: str) -> str:
    bold = text.startswith("**") and text.endswith("**") and "*" not in text[2:-2]
    return f"**{escaped(text[2:-2])}**" if bold else escaped(text)


def escaped(text: str) -> str:
    """Return a text on one line, escaped so that Markdown renders it literally."""
    return MARKUP.sub(r"\\\g<0>", printable(" ".join(text.splitlines())))
