"""What each ingredient of Ranger21 contributes: alone, on the ladder from AdamW, and given the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.config.ablation import ALL, INGREDIENTS
from ranger21.report.figures.drawing import Bar, write_bars
from ranger21.report.groups.comparisons import Comparison
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
    """The difference in final top-1 (points) of an ingredient switched on, in the company of others."""

    ingredient: str
    company: str  # ALONE, LADDER or GIVEN
    difference: Difference


def ingredients(group: Group) -> frozenset[str] | None:
    """The ingredients that are on in a group; None if it is not of Ranger21."""
    if group.settings.get("optimizer.name") != "ranger21":
        return None
    return frozenset(name for name, (key, off) in INGREDIENTS.items() if group.settings.get(key, off) != off)


def contributions(comparison: Comparison) -> list[Contribution]:
    """Every contribution that the groups can tell; p-values after Holm over all of them."""
    named = [(on, group) for group in comparison.groups if (on := ingredients(group)) is not None]
    groups: dict[frozenset[str], Group] = {}
    for on, group in named:
        if on in groups:
            raise UserError(
                f"{groups[on].label} and {group.label} have the same ingredients of Ranger21 switched on, and differ "
                "in something else: give --ablation the runs of one experiment=ablation."
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


def write_ablation(comparisons: Sequence[Comparison], out: Path) -> list[Path]:
    """Write ablation.md, and ablation.png and .svg for each comparison that has such runs; nothing without any."""
    told = [(comparison, found) for comparison in comparisons if (found := contributions(comparison))]
    if not told:
        return []
    with create(out / "ablation.md") as file:
        file.write(text_of(comparisons))
    pictures = [_draw(found, out / comparison.slug / "ablation") for comparison, found in told]
    return [out / "ablation.md", *(path for paths in pictures for path in paths)]


def text_of(comparisons: Sequence[Comparison]) -> str:
    """Return what ablation.md says of those comparisons that have such runs."""
    told = [(comparison, found) for comparison in comparisons if (found := contributions(comparison))]
    return "\n\n".join(markdown(comparison, found) for comparison, found in told)


def markdown(comparison: Comparison, found: Sequence[Contribution]) -> str:
    """A table with a row an ingredient, a column a company."""
    companies = [company for company in (ALONE, LADDER, GIVEN) if any(c.company == company for c in found)]
    cells = {(c.ingredient, c.company): _cell(c.difference) for c in found}
    rows = [[name, *(cells.get((name, company), "–") for company in companies)] for name in ALL]
    table = "\n".join(table_lines(["ingredient", *companies], rows))
    return (
        f"## {escaped(comparison.title)}: what each ingredient of Ranger21 contributes\n\n"
        "Difference in final top-1 in points when the ingredient is switched on, its 95 % interval (this difference "
        f"alone), and p after Holm over the {found[0].difference.family} differences with enough seeds. Equivalent: "
        f"it is shown to contribute less than {margin_of(comparison.runs):g} points either way. A "
        "diverged run counts as chance; where one is among those compared, p is of a test of ranks, and there is no "
        f"interval.\n\n{table}\n"
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
    """Points with intervals, a row an ingredient."""
    bars = [Bar(c.ingredient, c.company, c.difference.mean, c.difference.low, c.difference.high) for c in found]
    return write_bars(bars, ALL, "contribution to final top-1 (points)", path)


def _mark(on: frozenset[str]) -> str:
    return "+".join(name for name in ALL if name in on) or "adamw"
