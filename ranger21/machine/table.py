"""The table of the results. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from ranger21.machine.check import FAILED, OK, STATES, WARNING, CheckRow
from ranger21.system.wording import one_line

STYLES = {OK: "green", WARNING: "yellow", FAILED: "bold red"}
LONGEST = 700  # characters of a cell


def table(rows: Sequence[CheckRow]) -> Table:
    """Return a table with a row for each check; the remedy follows the result."""
    made = Table("check", "", "result, and what to do", "s", box=box.MARKDOWN)
    made.columns[-1].justify = "right"
    for row in rows:
        seen = Text(one_line(row.found.seen, LONGEST))
        if row.found.remedy:
            seen.append(f" → {one_line(row.found.remedy, LONGEST)}", STYLES[row.found.state])
        made.add_row(Text(row.check), Text(row.found.state, STYLES[row.found.state]), seen, f"{row.seconds:.1f}")
    return made


def summary(rows: Sequence[CheckRow]) -> str:
    """Return the number of rows in each state, as text."""
    counts = {state: sum(row.found.state == state for row in rows) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count)
