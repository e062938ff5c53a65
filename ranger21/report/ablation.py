"""Measure what each ingredient of Ranger21 contributes: alone, in a ladder from AdamW, and given all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.config.ablation import ALL, INGREDIENTS
from ranger21.report.figures.drawing import ErrorBar, write_error_bars
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.grouping import Group
from ranger21.report.groups.resolution import quantum
from ranger21.report.groups.summary import final_top1, seeds
from ranger21.report.statistics.equivalence import margin_of
from ranger21.report.statistics.pairs import some_pairs
from ranger21.report.statistics.verdicts import Difference
from ranger21.report.tables.text import create, escaped, table_lines
from ranger21.system.errors import UserError

ALONE, LADDER, GIVEN = "alone (added to AdamW)", "on the ladder (given those above)", "given all the others"


@dataclass(frozen=True)
class Contribution:
    """The difference in final top-1 (points) from switching an ingredient on.

    Attributes:
        company: which other ingredients are on: ALONE, LADDER or GIVEN.
    """

    ingredient: str
    company: str
    difference: Difference


def ingredients(group: Group) -> frozenset[str] | None:
    """Return the ingredients that are on in a group; None if its optimizer is not Ranger21."""
    if group.settings.get("optimizer.name") != "ranger21":
        return None
    return frozenset(name for name, (key, off) in INGREDIENTS.items() if group.settings.get(key, off) != off)


def contributions(comparison: GroupComparison) -> list[Contribution]:
    """Return every contribution that the groups can show, with Holm's correction over all of them.

    Raises:
        UserError: two groups have the same ingredients and differ in some other setting.
    """
    named = [(on, group) for group in comparison.groups if (on := ingredients(group)) is not None]
    groups: dict[frozenset[str], Group] = {}
    for on, group in named:
        if on in groups:
            raise UserError(
                f"{groups[on].label} and {group.label} have the same ingredients of Ranger21 switched on, but another "
                "setting differs. With --ablation, give only the runs of one experiment=ablation."
            )
        groups[on] = group
    wanted = [
        (name, company, with_it, without)
        for index, name in enumerate(ALL)
        for company, without in ((ALONE, ()), (LADDER, ALL[:index]), (GIVEN, tuple(n for n in ALL if n != name)))
        if (with_it := frozenset((*without, name))) in groups and frozenset(without) in groups
    ]
    values = {_mark(on): seeds(group.runs, final_top1) for on, group in groups.items()}
    asked = [(_mark(with_it), _mark(frozenset(without))) for _, _, with_it, without in wanted]
    known = [(a, b) for a, b in asked if values[a] and values[b]]
    runs = comparison.runs
    judged = some_pairs(values, list(dict.fromkeys(known)), quantum=quantum(runs), margin=margin_of(runs))
    found = {(pair.a, pair.b): pair.difference for pair in judged}
    return [
        Contribution(name, company, found[pair])
        for (name, company, _, _), pair in zip(wanted, asked, strict=True)
        if pair in found
    ]


def write_ablation(comparisons: Sequence[GroupComparison], out: Path) -> list[Path]:
    """Write ablation.md, and a figure for each comparison with such runs; write nothing if there are none."""
    told = [(comparison, found) for comparison in comparisons if (found := contributions(comparison))]
    if not told:
        return []
    with create(out / "ablation.md") as file:
        file.write(text_of(comparisons))
    pictures = [_draw(found, out / comparison.slug / "ablation") for comparison, found in told]
    return [out / "ablation.md", *(path for paths in pictures for path in paths)]


def text_of(comparisons: Sequence[GroupComparison]) -> str:
    """Return the text of ablation.md, which covers the comparisons with such runs."""
    told = [(comparison, found) for comparison in comparisons if (found := contributions(comparison))]
    return "\n\n".join(markdown(comparison, found) for comparison, found in told)


def markdown(comparison: GroupComparison, found: Sequence[Contribution]) -> str:
    """Return a section in Markdown with a table of ingredients (rows) and companies (columns)."""
    companies = [company for company in (ALONE, LADDER, GIVEN) if any(c.company == company for c in found)]
    cells = {(c.ingredient, c.company): _cell(c.difference) for c in found}
    rows = [[name, *(cells.get((name, company), "–") for company in companies)] for name in ALL]
    table = "\n".join(table_lines(["ingredient", *companies], rows))
    return (
        f"## {escaped(comparison.title)}: what each ingredient of Ranger21 contributes\n\n"
        "Each cell is the difference in final top-1 (points) from switching the ingredient on, its 95 % interval (for "
        f"this difference alone), and p after Holm's correction over all {found[0].difference.family} differences "
        f"with enough seeds. Equivalent: the contribution is shown to be below {margin_of(comparison.runs):g} points "
        "in either direction. A diverged run counts as chance; a difference that includes one has a p from a rank "
        f"test and no interval.\n\n{table}\n"
    )


def _cell(difference: Difference) -> str:
    interval = "" if difference.low is None else f" ({difference.low:+.2f} to {difference.high:+.2f})"
    p = "" if difference.p_adjusted is None else f", p = {difference.p_adjusted:.2g}"
    close = difference.equivalence if difference.equivalence and difference.equivalence.within else None
    verdict: str = difference.verdict
    if verdict == "cannot tell":
        verdict += f", n = {difference.n_a}"
    elif close:
        within = f"within {close.margin:g}, p = {close.p_adjusted:.2g}"
        verdict += f" ({within})" if verdict == "equivalent" else f", but {within}"
    a, b = difference.failed
    lost = f" ({a} of {difference.n_a} with it diverged, {b} of {difference.n_b} without)" if a or b else ""
    return f"{difference.mean:+.2f}{interval}{p}: {verdict}{lost}"


def _draw(found: Sequence[Contribution], path: Path) -> list[Path]:
    """Draw the contributions with intervals, one row per ingredient."""
    bars = [ErrorBar(c.ingredient, c.company, c.difference.mean, c.difference.low, c.difference.high) for c in found]
    return write_error_bars(bars, ALL, "contribution to final top-1 (points)", path)


def _mark(on: frozenset[str]) -> str:
    return "+".join(name for name in ALL if name in on) or "adamw"
