"""Build the page's section on each comparison: table, verdicts, claims, links to figures, and notes."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from ranger21.report.claims.claims import HEADS, claim_results
from ranger21.report.claims.rules import NOT_RUN
from ranger21.report.figures.gallery import gallery
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.page.tables import html_table
from ranger21.report.tables import table


def comparison_section(comparison: GroupComparison) -> tuple[str, str]:
    """Return a heading and the section as HTML, in which all text from runs is escaped."""
    shown = table.columns(comparison.rows)
    cells = [[escape(cell(row)) for cell in shown.values()] for row in comparison.rows]
    parts = [html_table(map(escape, shown), cells, "results"), _list(table.sentences(comparison.rows))]
    found = [finding for finding in claim_results(comparison) if finding.status != NOT_RUN]
    if found:
        judged = [[*map(escape, finding.cells), f"<strong>{finding.status}</strong>"] for finding in found]
        parts.append(html_table(HEADS, judged, "claims"))
    links = [(picture.title, f"{comparison.slug}/{picture.name}.svg") for picture in gallery(comparison)]
    pictures = " · ".join(f'<a href="{escape(path)}">{escape(title)}</a>' for title, path in links)
    return comparison.title, "\n".join([*parts, f"<p>Figures: {pictures}</p>", _list(table.notes(comparison.rows))])


def _list(phrases: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(phrase)}</li>' for phrase in phrases)}</ul>"
