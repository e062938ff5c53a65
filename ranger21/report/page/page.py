"""Write index.html, one file that needs no network, with interactive curves and tables.

The files in `assets/` are embedded: the template, the style sheets, the scripts in the order of `SCRIPTS`, and uPlot
1.6.32 (MIT, see `assets/uplot.LICENSE`), which draws the curves. The page's content security policy contains the hash
of the scripts, so no other script can run, whatever labels and tables contain.
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
from ranger21.report.page.sections import Tab, scrolling
from ranger21.report.tables.table import MARKS
from ranger21.report.tables.text import create
from ranger21.system.wording import counted

ASSETS = Path(__file__).with_name("assets")
STYLES = ("uplot.min.css", "style.css")
SCRIPTS = tuple(
    f"{name}.js" for name in ("curves", "view", "ticks", "plot", "draw", "tooltip", "panels", "sidebar", "tabs", "main")
)


def write_page(
    tabs: Sequence[Tab], out: Path, *, title: str, links: Sequence[str] = (), reload: float | None = None
) -> Path:
    """Write `index.html` into the folder `out`, and return its path.

    Args:
        tabs: the first one is shown first.
        links: the names of files in `out` to link to.
        reload: the seconds after which the page loads the file again, while runs are going on; None for never.
    """
    script = _script()
    groups = [group for tab in tabs for group in tab.groups]
    parts = {
        "title": escape(title),
        "summary": _summary(groups),
        "links": " ".join(f'<a href="{escape(name)}">{escape(name)}</a>' for name in links),
        "thinning": _thinning(groups),
        "tabs": "".join(map(_tab, tabs)) if len(tabs) > 1 else "",
        "answers": "\n".join(_panel(tab, tab.answer, several=len(tabs) > 1) for tab in tabs),
        "details": "\n".join(
            _panel(tab, "\n".join(_section(*part) for part in tab.details if part[1])) for tab in tabs
        ),
        "style": "\n".join(_asset(name) for name in STYLES),
        "data": embedded(page_data(tabs, reload)),
        "script": script,
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    html = re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], _asset("template.html"))
    path = out / "index.html"
    with create(path) as file:
        file.write(html)
    return path


def embedded(data: object) -> str:
    """Return JSON that is safe to embed in HTML, in ASCII."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    """Read a file of `assets/`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def _script() -> str:
    """Return uPlot with its licence, followed by our scripts."""
    ours = "\n".join(_asset(name) for name in SCRIPTS)
    return f"/*!\n{_asset('uplot.LICENSE')}*/\n{_asset('uplot.min.js')}\n{ours}"


def _summary(groups: Sequence[Group]) -> str:
    """Return a sentence with the numbers of groups and runs."""
    runs = [run for group in groups for run in group.runs]
    states = {state: sum(run.status == state for run in runs) for state in MARKS}
    told = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    return f"{counted(len(groups), 'group')}, {counted(len(runs), 'run')}: {told}"


def _thinning(groups: Sequence[Group]) -> str:
    """Return the sentence on the thinning of long curves."""
    points = points_a_curve(sum(len(group.runs) for group in groups))
    less = "" if points == POINTS else " (fewer than usual, because there are many runs)"
    return f"Curves of more than {points} points{less} are averaged over equally many consecutive points."


def _section(heading: str, html: str) -> str:
    """Return a part of the details below its heading; wide tables scroll on their own."""
    return f"<section><h2>{escape(heading)}</h2>{scrolling(html)}</section>"


def _tab(tab: Tab) -> str:
    """Return the button of a tab. It is a link, so that it can be opened in another window."""
    key = escape(tab.key)
    return f'<a role="tab" href="#tab={key}" data-tab-link="{key}">{escape(tab.title)}</a>'


def _panel(tab: Tab, html: str, several: bool = False) -> str:
    """Return what a tab shows in one place of the page. The script hides the other tabs."""
    title = f"<h2>{escape(tab.title)}</h2>" if several else ""
    return f'<div data-tab="{escape(tab.key)}">{title}{html}</div>'
