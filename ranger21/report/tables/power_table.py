"""What `--power` writes: the seeds that a gap in final top-1 needs for each pair of groups, by their runs' spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.report.groups.comparisons import Comparison
from ranger21.report.groups.resolution import quantum
from ranger21.report.groups.summary import final_top1, seeds, top1_pairs
from ranger21.report.runs.run import FINISHED
from ranger21.report.statistics.pairs import Pair
from ranger21.report.statistics.power import (
    MOST,
    POWER,
    Spread,
    gap_found,
    paired_spread,
    seeds_needed,
    unpaired_spread,
)
from ranger21.report.tables.text import create, escaped, table_lines

HEADS = (
    "group", "and", "seeds now", "gap that they find", "sd of the differences", "seeds needed, paired",
    "sd of the groups", "seeds needed, unpaired",
)  # fmt: skip
EXPLAINED = f"""\
"Gap that they find": in points, by the test that compares the seeds of now, with a chance of {100 * POWER:g} %.
"Seeds needed" are of each group; in brackets if the spread lies at either end of its 95 % interval, as few seeds hardly
tell it. Spreads are of finished runs: that runs fail is no noise that more seeds average out. Where one failed and the
pair is compared by ranks, no gap is given."""


@dataclass(frozen=True)
class Need:
    """The seeds of each group that find the gap, None for more than MOST, and those at both ends of the spread."""

    spread: Spread
    seeds: int | None
    low: int | None
    high: int | None


@dataclass(frozen=True)
class Plan:
    """One pair: its seeds now, the gap (points) that they find, and what the wanted gap needs; None where unknown."""

    a: str
    b: str
    n_a: int
    n_b: int
    found: float | None
    paired: Need | None
    unpaired: Need | None

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands beneath HEADS."""
        found = "–" if self.found is None else f"{self.found:.2f}"
        return (self.a, self.b, f"{self.n_a} and {self.n_b}", found, *_told(self.paired), *_told(self.unpaired))


def plans(comparison: Comparison, gap: float) -> list[Plan]:
    """Every pair of groups that have finished runs, in the order of the table."""
    values = {row.group.label: seeds(row.group.having(FINISHED), final_top1) for row in comparison.rows}
    pairs, step = top1_pairs(comparison.rows), quantum(comparison.runs)

    def need(spread: Spread | None) -> Need | None:
        if spread is None or not (spread.sd or step):
            return None
        return Need(spread, *(seeds_needed(gap, one, len(pairs), step) for one in (spread, *spread.ends())))

    def plan(pair: Pair) -> Plan:
        a, b = values[pair.a], values[pair.b]
        together, apart, test = paired_spread(a, b), unpaired_spread(a, b), pair.difference
        spread, n = together if test.paired else apart, (test.n_a, test.n_b)
        by_t = test.low_adjusted is not None  # and not by ranks, as where a run failed
        found = gap_found(spread, n, test.family, step) if spread and by_t else None
        return Plan(pair.a, pair.b, len(a), len(b), found, need(together), need(apart))

    return [plan(pair) for pair in pairs]


def summary(found: Sequence[Plan], gap: float) -> str:
    """How many seeds do for all pairs of a comparison."""
    tests = len(found)
    corrected = f", after the correction over {tests} pairs" if tests > 1 else ""
    aim = f"a gap of {gap:g} points in final top-1 with a chance of {100 * POWER:g} %{corrected}"
    told = []
    for name, needs in (("paired by seed", [x.paired for x in found]), ("unpaired", [x.unpaired for x in found])):
        if known := [need for need in needs if need]:
            most = None if any(need.seeds is None for need in known) else max(need.seeds or 0 for need in known)
            rest = "" if len(known) == tests else f" (by {len(known)} of {tests} pairs: the others tell no spread)"
            told.append(f"{_number(most)} {name}{rest}")
    if not told:
        return f"How many seeds find {aim}, these runs cannot tell: no pair has two seeds in each group, and a spread."
    return f"Seeds of each group that find {aim}, whichever pair it is: {', '.join(told)}."


def markdown(comparison: Comparison, gap: float) -> str:
    """A comparison's plans as a section in Markdown."""
    found = plans(comparison, gap)
    lines = table_lines(HEADS, [plan.cells for plan in found], right=range(2, len(HEADS)))
    return f"## {escaped(comparison.title)}\n\n{escaped(summary(found, gap))}\n\n{chr(10).join(lines)}\n"


def write_power(comparisons: Sequence[Comparison], gap: float, out: Path) -> Path | None:
    """Write power.md for the comparisons that have a pair; None, and no file, if none has."""
    told = [comparison for comparison in comparisons if len([row for row in comparison.rows if row.final_top1]) > 1]
    if not told:
        return None
    with create(out / "power.md") as file:
        file.write(f"{EXPLAINED}\n\n" + "\n".join(markdown(comparison, gap) for comparison in told))
    return out / "power.md"


def _told(need: Need | None) -> tuple[str, str]:
    """The spread, and `7 (4 to 38)`."""
    if need is None:
        return "–", "–"
    seeds, low, high = (_number(seeds) for seeds in (need.seeds, need.low, need.high))
    return f"{need.spread.sd:.2f}", seeds if seeds == low == high else f"{seeds} ({low} to {high})"


def _number(seeds: int | None) -> str:
    return f"more than {MOST:,}" if seeds is None else f"{seeds:,}"
