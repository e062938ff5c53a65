"""The table of results as the page and the terminal show it: the accuracy first."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ranger21.report.groups.summary import GroupSummary
from ranger21.report.tables.table import columns
from ranger21.system.terminal import first_that_fits

FIRST = ("group", "final top-1 (%)", "95 % interval", "n")


def results(rows: Sequence[GroupSummary]) -> dict[str, list[str]]:
    """Return the cells of each column by its heading. Columns in which every cell is 0 or a dash are left out."""
    shown = columns(rows)
    heads = [*FIRST, *(head for head in shown if head not in FIRST)]
    cells = {head: [shown[head](row) for row in rows] for head in heads}
    return {head: texts for head, texts in cells.items() if head in FIRST or not set(texts) <= {"0", "–"}}


def terminal(rows: Sequence[GroupSummary], title: str, console: Console) -> Table:
    """Return the table with as many columns as fit into the console's width; the `notes` belong below it."""
    cells = results(rows)
    return first_that_fits(
        [_table(cells, columns, title) for columns in range(len(cells), len(FIRST) - 1, -1)], console
    )


def _table(cells: dict[str, list[str]], columns: int, title: str) -> Table:
    """Return the table with the first columns, and the names of the others below it."""
    heads = list(cells)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(title, "table.title"), title_justify="left")
    if others := heads[columns:]:
        table.caption, table.caption_justify = Text(f"table.md also has {', '.join(others)}"), "left"
    for number, head in enumerate(heads[:columns]):
        table.add_column(head, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    for row in zip(*(cells[head] for head in heads[:columns]), strict=True):
        table.add_row(*map(Text, row))
    return table
