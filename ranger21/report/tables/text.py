"""How the comparison writes text: files that take every string, and tables in Markdown."""

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
    """A file for text in UTF-8, lines ending as they are written; it is there when it is whole.

    It takes every string: what UTF-8 cannot say, such as a byte 255 in a directory's name, stands in it as \\udcff.
    """
    with replacing(path) as new, new.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        yield file


def table_lines(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> list[str]:
    """A table in Markdown, whatever its cells hold; the columns of these indices stand at the right."""
    rule = ["---:" if column in right else "---" for column in range(len(heads))]
    first, *told = [[_cell(text) for text in row] for row in (heads, *rows)]
    return [f"| {' | '.join(line)} |" for line in (first, rule, *told)]


def _cell(text: str) -> str:
    bold = text.startswith("**") and text.endswith("**") and "*" not in text[2:-2]
    return f"**{escaped(text[2:-2])}**" if bold else escaped(text)


def escaped(text: str) -> str:
    """A text, in one line, of which Markdown makes nothing: no links, pictures, HTML, code, formulas or cells."""
    return MARKUP.sub(r"\\\g<0>", printable(" ".join(text.splitlines())))
