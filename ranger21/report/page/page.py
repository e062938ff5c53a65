"""The comparison as one HTML file that needs no network: curves to explore, and tables.

What is beneath `assets/` is written into it: the template, the style, the scripts in the order of `SCRIPTS`, and uPlot
1.6.32 (MIT, see `assets/uplot.LICENSE`), which draws the curves. The scripts' hash is in the page's security policy, so
that nothing else in it is ever executed, whatever a label or a table holds.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from ranger21.report.groups.grouping import Group
from ranger21.report.page.data import POINTS, page_data, points_a_curve
from ranger21.report.page.tables import difference_table, run_table
from ranger21.report.tables.table import MARKS
from ranger21.report.tables.text import create

ASSETS = Path(__file__).with_name("assets")
STYLES = ("uplot.min.css", "style.css")
SCRIPTS = ("curves.js", "view.js", "plot.js", "draw.js", "tooltip.js", "panels.js", "sidebar.js", "main.js")


def write_page(
    groups: Sequence[Group],
    out: Path,
    *,
    title: str,
    links: Sequence[str],
    tables: Sequence[tuple[str, str]],
) -> Path:
    """Write `index.html` into the folder `out`, and return its path.

    `links` are the names of files beside it. `tables` are headings and ready HTML, which must be escaped already.
    """
    script = _script()
    shown = [*tables, ("Settings that differ", difference_table(groups)), ("Runs", run_table(groups))]
    parts = {
        "title": escape(title),
        "summary": _summary(groups),
        "links": " ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in links),
        "thinning": _thinning(groups),
        "tables": "\n".join(_section(heading, html) for heading, html in shown if html),
        "style": "\n".join(_asset(name) for name in STYLES),
        "data": embedded(page_data(groups)),
        "script": script,
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    html = re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], _asset("template.html"))
    path = out / "index.html"
    with create(path) as file:
        file.write(html)
    return path


def embedded(data: object) -> str:
    """JSON that no HTML parser takes for a tag, and that needs no encoding."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    """A file of `assets/`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def _script() -> str:
    """uPlot with its licence, and our scripts."""
    ours = "\n".join(_asset(name) for name in SCRIPTS)
    return f"/*!\n{_asset('uplot.LICENSE')}*/\n{_asset('uplot.min.js')}\n{ours}"


def _summary(groups: Sequence[Group]) -> str:
    """How many groups and runs there are."""
    runs = [run for group in groups for run in group.runs]
    states = {state: sum(run.status == state for run in runs) for state in MARKS}
    told = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    return f"{_count(len(groups), 'group')}, {_count(len(runs), 'run')}: {told}"


def _thinning(groups: Sequence[Group]) -> str:
    """What is said of curves that have been made shorter."""
    points = points_a_curve(sum(len(group.runs) for group in groups))
    less = "" if points == POINTS else " (fewer than usual, since there are many runs)"
    return f"A curve of more than {points} points{less} is drawn as means over equal numbers of consecutive points."


def _section(heading: str, html: str) -> str:
    """A table beneath its heading; wide ones scroll by themselves."""
    return f'<section><h2>{escape(heading)}</h2><div class="scroll" tabindex="0">{html}</div></section>'


def _count(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
