"""Write power.md: the seeds that each pair of groups needs to detect a gap in final top-1, from the runs' spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.report.groups.comparisons import GroupComparison
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
    "group", "and", "seeds now", "gap they detect", "sd of paired differences", "seeds needed, paired",
    "sd of the groups", "seeds needed, unpaired",
)  # fmt: skip
EXPLAINED = f"""\
"Gap they detect" is in points: the gap that the present seeds detect with a power of {100 * POWER:g} %. "Seeds needed"
is per group; the range in brackets is for a spread at either end of its 95 % interval, since few seeds determine the
spread poorly. Spreads are those of finished runs, because failures are not noise that more seeds average out. There is
no gap for pairs that are compared by ranks because a run failed."""


@dataclass(frozen=True)
class SeedsNeeded:
    """The number of seeds per group that detects a gap; None stands for more than MOST.

    Attributes:
        seeds: the number for the observed spread.
        low: the number for the lower end of the spread's interval.
        high: the number for the upper end of the spread's interval.
    """

    spread: Spread
    seeds: int | None
    low: int | None
    high: int | None


@dataclass(frozen=True)
class SeedPlan:
    """The power analysis of one pair of groups.

    Attributes:
        n_a: the seeds that group a has now.
        n_b: the seeds that group b has now.
        found: the gap, in points, that these seeds detect; None if it is unknown.
        paired: the seeds needed if they are paired; None if the spread is unknown.
        unpaired: the seeds needed if they are not paired; None if the spread is unknown.
    """

    a: str
    b: str
    n_a: int
    n_b: int
    found: float | None
    paired: SeedsNeeded | None
    unpaired: SeedsNeeded | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of its row, below HEADS."""
        found = "–" if self.found is None else f"{self.found:.2f}"
        return (self.a, self.b, f"{self.n_a} and {self.n_b}", found, *_told(self.paired), *_told(self.unpaired))


def seed_plans(comparison: GroupComparison, gap: float) -> list[SeedPlan]:
    """Return the power analysis of every pair of groups with finished runs, in the order of the table."""
    values = {row.group.label: seeds(row.group.having(FINISHED), final_top1) for row in comparison.rows}
    pairs, step = top1_pairs(comparison.rows), quantum(comparison.runs)

    def need(spread: Spread | None) -> SeedsNeeded | None:
        if spread is None or not (spread.sd or step):
            return None
        return SeedsNeeded(spread, *(seeds_needed(gap, one, len(pairs), step) for one in (spread, *spread.ends())))

    def plan(pair: Pair) -> SeedPlan:
        a, b = values[pair.a], values[pair.b]
        together, apart, test = paired_spread(a, b), unpaired_spread(a, b), pair.difference
        spread, n = together if test.paired else apart, (test.n_a, test.n_b)
        by_t = test.low_adjusted is not None  # false for the rank test, which is used if a run failed
        found = gap_found(spread, n, test.family, step) if spread and by_t else None
        return SeedPlan(pair.a, pair.b, len(a), len(b), found, need(together), need(apart))

    return [plan(pair) for pair in pairs]


def summary(found: Sequence[SeedPlan], gap: float) -> str:
    """Return a sentence on the number of seeds that suffices for every pair of a comparison."""
    tests = len(found)
    corrected = f", after the correction over {tests} pairs" if tests > 1 else ""
    aim = f"a gap of {gap:g} points in final top-1 with a power of {100 * POWER:g} %{corrected}"
    told = []
    for name, needs in (("paired by seed", [x.paired for x in found]), ("unpaired", [x.unpaired for x in found])):
        if known := [need for need in needs if need]:
            most = None if any(need.seeds is None for need in known) else max(need.seeds or 0 for need in known)
            rest = "" if len(known) == tests else f" (from {len(known)} of {tests} pairs; the others show no spread)"
            told.append(f"{_number(most)} {name}{rest}")
    if not told:
        return f"Cannot tell how many seeds detect {aim}: no pair has two seeds in each group and some spread."
    return f"Seeds per group that detect {aim}, for every pair: {', '.join(told)}."


def markdown(comparison: GroupComparison, gap: float) -> str:
    """Return the power analysis of a comparison as a section in Markdown."""
    found = seed_plans(comparison, gap)
    lines = table_lines(HEADS, [plan.cells for plan in found], right=range(2, len(HEADS)))
    return f"## {escaped(comparison.title)}\n\n{escaped(summary(found, gap))}\n\n{chr(10).join(lines)}\n"


def write_power(comparisons: Sequence[GroupComparison], gap: float, out: Path) -> Path | None:
    """Write power.md for the comparisons with at least one pair. Return None, and write nothing, if there is none."""
    told = [comparison for comparison in comparisons if len([row for row in comparison.rows if row.final_top1]) > 1]
    if not told:
        return None
    with create(out / "power.md") as file:
        file.write(f"{EXPLAINED}\n\n" + "\n".join(markdown(comparison, gap) for comparison in told))
    return out / "power.md"


def _told(need: SeedsNeeded | None) -> tuple[str, str]:
    """Return the spread and the seeds needed, such as `7 (4 to 38)`."""
    if need is None:
        return "–", "–"
    seeds, low, high = (_number(seeds) for seeds in (need.seeds, need.low, need.high))
    return f"{need.spread.sd:.2f}", seeds if seeds == low == high else f"{seeds} ({low} to {high})"


def _number(seeds: int | None) -> str:
    return f"more than {MOST:,}" if seeds is None else f"{seeds:,}"
