"""Build the page's tables as HTML, with all text from runs escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from ranger21.report.groups.grouping import Group, show
from ranger21.report.runs.run import DIVERGED, RecordedRun, finite
from ranger21.report.tables.table import MARKS, SAID
from ranger21.tracking.splits import HOLDOUT, OFFICIAL

NOTHING = "–"
TOP, WHOLE = r"top-\d", r'<span class="whole">\g<0></span>'  # no line ends within `top-1`
BREAK = r"\g<0><wbr>"


def difference_table(groups: Sequence[Group]) -> str:
    """Return a table of the settings that differ between groups, with a row for each value; empty if none differs."""
    rows = []
    for key in sorted({key for group in groups for key in group.settings}):
        having: dict[str, list[str]] = {}
        for index, group in enumerate(groups):
            having.setdefault(_setting(group.settings, key), []).append(group_name(index, group))
        told = [[escape(value), " ".join(names)] for value, names in having.items()]
        heading = f"<code>{escape(key)}</code>"
        rows += [["" if i else heading, *row] for i, row in enumerate(told)] if len(told) > 1 else []
    return html_table(["setting", "value", "groups"], rows, "differences") if rows else ""


def run_table(groups: Sequence[Group]) -> str:
    """Return a table of all runs: state, last epoch, last top-1, directory and notes."""
    rows = [
        [
            group_name(index, group),
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
    """Return a table whose cells are HTML already. The first cell of each row is its heading."""
    head = "".join(f'<th scope="col">{re.sub(TOP, WHOLE, cell)}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>\n' for row in rows
    )
    return f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'


def group_name(index: int, group: Group) -> str:
    """Return a group's label, which may break after = and _. The page's script puts a sample of its line before it."""
    return f'<span class="name" data-group="{index}">{re.sub("[=_]", BREAK, escape(group.label))}</span>'


def _state(run: RecordedRun) -> str:
    """Return how a run ended, or that it has not ended."""
    step = run.result.get("diverged_at_step", run.result.get("step"))
    where = f" at step {step}" if run.status == DIVERGED and finite(step) else ""
    return f"{MARKS[run.status]} {SAID[run.status]}{where}".strip()


def _last_top1(run: RecordedRun) -> str:
    """Return the last top-1 on the official validation set, or else on the holdout, marked as such."""
    final, held = run.last(f"{OFFICIAL}/acc1"), run.last(f"{HOLDOUT}/acc1")
    return _number(final, ".2f") if held is None or final is not None else f"{held:.2f} (holdout)"


def _setting(settings: dict[str, Any], key: str) -> str:
    """Return a setting's value as written in a config, or a dash if the group lacks it."""
    return show(settings[key]) if key in settings else NOTHING


def _number(value: Any, form: str) -> str:
    """Return a formatted number, or a dash for None."""
    return NOTHING if value is None else format(value, form)
