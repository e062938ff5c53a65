"""Build the page's tabs: an overview of all comparisons, and for each comparison its answer and its details."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ranger21.report.claims.claims import HEADS, claim_results
from ranger21.report.claims.rules import NOT_RUN
from ranger21.report.figures.gallery import gallery
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.grouping import Group
from ranger21.report.groups.summary import GroupSummary, top1_pairs
from ranger21.report.page.tables import difference_table, group_name, html_table, run_table
from ranger21.report.tables import table
from ranger21.report.tables.results import FIRST, results
from ranger21.system.wording import counted

OVERVIEW = "overview"


@dataclass(frozen=True)
class Tab:
    """A tab of the page. All HTML has the text from runs escaped.

    Attributes:
        key: names the tab in the page's address.
        groups: the groups whose curves it shows; empty for the overview.
        answer: HTML above the curves.
        details: headings and HTML below the curves.
    """

    key: str
    title: str
    groups: Sequence[Group]
    answer: str
    details: Sequence[tuple[str, str]] = ()


def comparison_tab(comparison: GroupComparison) -> Tab:
    """Return the tab of a comparison: verdicts and results, then tests, claims, links to figures, notes and runs."""
    rows = comparison.rows
    links = [(picture.title, f"{comparison.slug}/{picture.name}.svg") for picture in gallery(comparison)]
    pictures = " · ".join(f'<a href="{escape(path)}">{escape(title)}</a>' for title, path in links)
    parts = [
        ("How sure: the tests behind the verdicts", bullets(table.sentences(rows))),
        ("Notes", bullets(table.notes(rows))),
        ("The paper's claims", _claims(comparison)),
        ("Figures", f"<p>{pictures}</p>"),
        ("Settings that differ", difference_table(comparison.groups)),
        ("Runs", run_table(comparison.groups)),
    ]
    answer = f"{verdict_list(rows)}\n{scrolling(_results(comparison))}"
    return Tab(comparison.slug, comparison.title, comparison.groups, answer, parts)


def overview_tab(
    comparisons: Sequence[GroupComparison], remarks: Sequence[str], more: Sequence[tuple[str, str]]
) -> Tab:
    """Return the first tab of a page with several comparisons: the best group of each, and what is shown about it.

    Args:
        remarks: sentences on what is not compared.
        more: further headings and HTML.
    """
    heads = ["comparison", "best final top-1", "%", "better than", "cannot tell from", "groups", "runs"]
    cells = []
    for comparison in comparisons:
        link = f'<a href="#tab={escape(comparison.slug)}" data-tab-link="{escape(comparison.slug)}">'
        counts = [str(len(comparison.groups)), str(len(comparison.runs))]
        cells.append([f"{link}{escape(comparison.title)}</a>", *_best(comparison.rows), *counts])
    answer = scrolling(html_table(heads, cells, "verdicts-of-all"))
    return Tab(OVERVIEW, "Overview", (), answer, [*more, ("Notes", bullets(remarks))])


def verdict_list(rows: Sequence[GroupSummary]) -> str:
    """Return one short sentence per pair of groups as a list; of many pairs, only those that `told_pairs` tells."""
    told, unsaid = table.told_pairs(rows)
    items = [
        f'<li class="{"unsure" if pair.difference.verdict == "cannot tell" else "sure"}">'
        f"{escape(_unbroken(pair.difference.brief(pair.a, pair.b, unit='points')))}</li>"
        for pair in sorted(told, key=lambda pair: pair.difference.verdict == "cannot tell")
    ]
    if unsaid:
        items.append(f'<li class="unsure">No verdict on {counted(unsaid, "further pair")}.</li>')
    return f'<ul class="verdicts" tabindex="0" aria-label="Verdicts">{"".join(items)}</ul>' if items else ""


def _unbroken(sentence: str) -> str:
    """Return a sentence in which no line ends within `p = 0.01`."""
    return re.sub(r" ([=<]) ", "\u00a0\\1\u00a0", sentence)


def bullets(phrases: Iterable[str]) -> str:
    """Return a list of sentences as HTML; empty without any."""
    items = "".join(f"<li>{escape(phrase)}</li>" for phrase in phrases)
    return f"<ul>{items}</ul>" if items else ""


def scrolling(html: str) -> str:
    """Return a table in an element that scrolls sideways if it does not fit."""
    return f'<div class="scroll" tabindex="0">{html}</div>'


def _results(comparison: GroupComparison) -> str:
    """Return the table of results."""
    rows, labels = comparison.rows, [group.label for group in comparison.groups]
    cells = results(rows)
    named = [group_name(labels.index(row.group.label), row.group) for row in rows]
    others = zip(*(map(escape, texts) for head, texts in cells.items() if head != FIRST[0]), strict=True)
    return html_table(map(escape, cells), [[name, *row] for name, row in zip(named, others, strict=True)], "results")


def _claims(comparison: GroupComparison) -> str:
    found = [finding for finding in claim_results(comparison) if finding.status != NOT_RUN]
    judged = [[*map(escape, finding.cells), f"<strong>{finding.status}</strong>"] for finding in found]
    return html_table(HEADS, judged, "claims") if judged else ""


def _best(rows: Sequence[GroupSummary]) -> list[str]:
    """Return the best group by final top-1, its accuracy, the groups shown to be worse, and the others."""
    if not rows:
        return ["–"] * 4
    best, pairs = rows[0], [pair for pair in top1_pairs(rows) if rows[0].group.label in (pair.a, pair.b)]
    beaten = [pair.b for pair in pairs if pair.a == best.group.label and pair.difference.verdict == "better"]
    others = [row.group.label for row in rows[1:] if row.group.label not in beaten]
    top1 = "–" if best.final_top1 is None else f"{best.final_top1.mean:.2f}"
    return [escape(best.group.label), top1, _names(beaten), _names(others)]


def _names(labels: Sequence[str]) -> str:
    """Return a few labels, or how many there are."""
    return escape(", ".join(labels)) or "–" if len(labels) <= 4 else counted(len(labels), "group")
