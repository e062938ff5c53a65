"""The page's tables as HTML. Every string that comes from a run is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ranger21.report.groups.grouping import Group, show
from ranger21.report.runs.run import DIVERGED, Run, finite
from ranger21.report.tables.table import MARKS, SAID
from ranger21.tracking.splits import HOLDOUT, OFFICIAL

NOTHING = "–"


def difference_table(groups: Sequence[Group]) -> str:
    """The settings that differ among the groups, a row each; empty where nothing does."""
    keys = sorted({key for group in groups for key in group.settings})
    values = {key: [_setting(group.settings, key) for group in groups] for key in keys}
    rows = [[f"<code>{escape(key)}</code>", *map(escape, row)] for key, row in values.items() if len(set(row)) > 1]
    heads = ["setting", *(_name(index, group) for index, group in enumerate(groups))]
    return html_table(heads, rows, "differences") if rows else ""


def run_table(groups: Sequence[Group]) -> str:
    """Every run: its state, how far it came, and where it is."""
    rows = [
        [
            _name(index, group),
            escape(str(run.seed)),
            escape(_state(run)),
            _number(run.last("epoch"), ".4g"),
            _last_top1(run),
            f"<code>{escape(str(run.path))}</code>" + "".join(f"<br>{escape(note)}" for note in run.notes),
        ]
        for index, group in enumerate(groups)
        for run in group.runs
    ]
    return html_table(["group", "seed", "state", "epoch", "last top-1 (%)", "directory, notes"], rows, "all-runs")


def html_table(heads: Iterable[str], rows: Iterable[Sequence[str]], kind: str) -> str:
    """A table of cells that are HTML already; the first of each row is its heading."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>\n' for row in rows
    )
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'


def _name(index: int, group: Group) -> str:
    """A group's name; the page draws its line in front."""
    return f'<span class="name" data-group="{index}">{escape(group.label)}</span>'


def _state(run: Run) -> str:
    """How a run ended, or that it did not."""
    step = run.result.get("diverged_at_step", run.result.get("step"))
    where = f" at step {step}" if run.status == DIVERGED and finite(step) else ""
    return f"{MARKS[run.status]} {SAID[run.status]}{where}".strip()


def _last_top1(run: Run) -> str:
    """The last top-1: of the official validation set if it was read, else of the holdout, which is said."""
    final, held = run.last(f"{OFFICIAL}/acc1"), run.last(f"{HOLDOUT}/acc1")
    return _number(final, ".2f") if held is None or final is not None else f"{held:.2f} (holdout)"


def _setting(settings: dict[str, Any], key: str) -> str:
    """A setting's value as in a config."""
    return show(settings[key]) if key in settings else NOTHING


def _number(value: Any, form: str) -> str:
    """A number, or a dash for none."""
    return NOTHING if value is None else format(value, form)
