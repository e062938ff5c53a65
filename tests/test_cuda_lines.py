"""docs/gpu.md lists every line that only CUDA executes, and how it was checked."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

from support.project import ROOT

NAMES = {"cuda", "is_cuda", "cudnn", "pin_memory", "non_blocking", "nccl", "GradScaler", "ProfilerActivity"}
WORDS = re.compile(r"cuda|nccl|CUBLAS|TORCH_FR_|TORCH_NCCL_")
OTHER_THAN_CPU = re.compile(r"\.type\s*(!=|==)\s*\"cpu\"|\.type in \(")
FILES = [ROOT / "train.py", *sorted((ROOT / "ranger21").rglob("*.py")), *sorted((ROOT / "scripts").glob("*.py"))]


def found() -> list[tuple[str, str]]:
    """Return (file, line) for each line of code that mentions CUDA or distinguishes it from a CPU."""
    lines = []
    for path in FILES:
        source = path.read_text()
        numbers = set()
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            sentence = " " in token.string or "\n" in token.string
            if token.type == tokenize.NAME and token.string in NAMES:
                numbers.add(token.start[0])
            if token.type == tokenize.STRING and not sentence and WORDS.search(token.string):
                numbers.add(token.start[0])
        for number, line in enumerate(source.splitlines(), 1):
            if number in numbers or OTHER_THAN_CPU.search(line):
                lines.append((path.relative_to(ROOT).as_posix(), line.strip()))
    return lines


def rows() -> list[tuple[str, list[str], str]]:
    """Return the table's rows.

    A row has a file (or a folder with a slash at its end), parts of its lines (none for all lines), and how they were
    checked.
    """
    table = (ROOT / "docs" / "gpu.md").read_text().partition("| where | lines | how it was checked |")[2]
    cells = [line.strip("|").split(" | ") for line in table.split("\n\n")[0].splitlines() if line.startswith("| `")]
    return [(where.strip(" `"), re.findall(r"`([^`]+)`", lines), how.strip()) for where, lines, how in cells]


def covers(row: tuple[str, list[str], str], where: str, line: str) -> bool:
    place, parts, _ = row
    here = where == place or (place.endswith("/") and where.startswith(place))
    return here and (not parts or any(part in line for part in parts))


def test_every_line_is_in_the_table() -> None:
    table, lines = rows(), found()
    assert len(table) > 10 and len(lines) > 40 and all(how for *_, how in table)
    missing = [f"{where}: {line}" for where, line in lines if not any(covers(row, where, line) for row in table)]
    assert not missing, (
        "add a row to the table in docs/gpu.md that says how the line was checked, or that it was not:\n"
        + ("\n".join(missing))
    )


def test_every_row_names_an_existing_line() -> None:
    lines = found()
    for place, parts, how in rows():
        for part in parts or [""]:
            assert any(covers((place, [part] if part else [], how), *line) for line in lines), (place, part)


def test_the_tests_that_the_page_names_exist() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text()
    names = set(re.findall(r"tests/(test_\w+\.py)", text))
    assert names and all((Path(__file__).parent / name).exists() for name in names)
