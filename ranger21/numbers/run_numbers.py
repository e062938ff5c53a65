"""Numbers from records of runs: of groups, pairs of groups, and ingredients."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ranger21.report.ablation import contributions
from ranger21.report.claims import figures as claim_figures
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.summary import GroupSummary, seeds, top1_pairs
from ranger21.report.runs.run import DIVERGED, RecordedRun
from ranger21.report.statistics.pairs import Estimate, difference
from ranger21.report.statistics.verdicts import Difference
from ranger21.report.write import examine


class RunNumbers:
    """Numbers of the runs in one record file or folder.

    Placeholders are `{FIGURE}`, `{COMPARISON | FIGURE}`, `{COMPARISON | GROUP | FIGURE}`,
    `{COMPARISON | GROUP - GROUP | FIGURE}` and `{COMPARISON | INGREDIENT: COMPANY | FIGURE}`.

    Args:
        place: a path that compare.py reads.
        names: short names for titles of comparisons and labels of groups.
        labels: labels of groups by their `tuning.record`.
    """

    def __init__(self, place: Path, names: Mapping[str, str], labels: Mapping[str, str] | None = None) -> None:
        self.place, self.names, self.labels = place, names, labels

    @cached_property
    def comparisons(self) -> dict[str, GroupComparison]:
        """The comparisons, by title."""
        return {
            comparison.title: comparison for comparison in examine([str(self.place)], names=self.labels).comparisons
        }

    def number(self, place: str) -> str:
        """Return the number for a placeholder. Raises a LookupError if the records have no such number."""
        parts = [part.strip() for part in place.split("|")]
        if len(parts) == 1:
            return OF_ALL[parts[0]]([run for one in self.comparisons.values() for run in one.runs])
        comparison = self.comparisons[self.names.get(parts[0], parts[0])]
        if len(parts) == 2:
            return OF_ALL[parts[1]](comparison.runs)
        who, what = parts[1:]
        rows = {row.group.label: row for row in comparison.rows}
        if ": " in who:
            return _of_ingredient(comparison, who, what)
        if " - " in who:
            a, b = (self.names.get(name, name) for name in who.split(" - "))
            if what in OF_PAIR_OF_GROUPS:
                return OF_PAIR_OF_GROUPS[what](rows[a], rows[b])
            return OF_PAIR[what](_difference(comparison, a, b))
        return OF_GROUP[what](rows[self.names.get(who, who)])


def _difference(comparison: GroupComparison, a: str, b: str) -> Difference:
    """Return the difference a - b in final top-1 (points), corrected for all pairs of the comparison."""
    ordered = sorted(comparison.rows, key=lambda row: row.group.label not in (a, b))
    rows = sorted(ordered, key=lambda row: row.group.label != a)  # a first, so that the difference is a - b
    return {(pair.a, pair.b): pair.difference for pair in top1_pairs(rows)}[a, b]


def _early(a: GroupSummary, b: GroupSummary) -> Difference:
    """Return the difference a - b in loss (nats) at the early validation of claim C4."""
    of_a, of_b = (seeds(row.group.runs, claim_figures.early_loss) for row in (a, b))
    found = difference(of_a, of_b)
    if found is None:
        raise LookupError("no run has an early validation")
    return found


def _of_ingredient(comparison: GroupComparison, who: str, what: str) -> str:
    ingredient, _, company = who.partition(": ")
    found = {(one.ingredient, one.company): one.difference for one in contributions(comparison)}
    return OF_PAIR[what](found[ingredient, company])


def around(estimate: Estimate | None, digits: int = 2) -> str:
    """Return mean ± standard deviation."""
    if estimate is None:
        return "–"
    return f"{estimate.mean:.{digits}f} ± {estimate.sd or 0:.{digits}f}"


def _p(difference: Difference) -> str:
    p = difference.p_adjusted or 0.0
    return f"{p:.{2 if p >= 0.1 else 3 if p >= 0.01 else 4}f}"


def _range(low: float | None, high: float | None, turned: bool = False) -> str:
    low, high = low or 0.0, high or 0.0
    low, high = (-high, -low) if turned else (low, high)
    return f"{low:.2f} to {high:.2f}".replace("-", "−")


def _roughnesses(row: GroupSummary) -> list[float]:
    """Return the roughness of every run that has one, ascending."""
    return sorted(found for run in row.group.runs if (found := claim_figures.roughness(run)) is not None)


def _highest(key: str) -> Callable[[GroupSummary], str]:
    def shown(row: GroupSummary) -> str:
        return f"{max(value for run in row.group.runs for value in run.series(key)[1]):,.1f}"

    return shown


OF_GROUP: dict[str, Callable[[GroupSummary], str]] = {
    "top1": lambda row: around(row.final_top1),
    "top1 mean": lambda row: f"{row.final_top1.mean:.2f}" if row.final_top1 else "–",
    "top1 once": lambda row: f"{row.final_top1.mean:.1f}" if row.final_top1 else "–",
    "runs": lambda row: str(len(row.group.runs)),
    "diverged": lambda row: str(len(row.group.having(DIVERGED))),
    "minutes": lambda row: f"{row.time.mean / 60:.1f}" if row.time else "–",
    "highest loss": _highest("train/loss"),
    "roughness": lambda row: f"{statistics.fmean(_roughnesses(row)):.3f}",
    "highest roughness": lambda row: f"{_roughnesses(row)[-1]:.3f}",
    "roughness of the others": lambda row: f"{_roughnesses(row)[0]:.3f} to {_roughnesses(row)[-2]:.3f}",
}
OF_PAIR_OF_GROUPS: dict[str, Callable[[GroupSummary, GroupSummary], str]] = {
    "early loss": lambda a, b: f"{_early(a, b).mean:.3f}",
    "early loss interval": lambda a, b: f"{_early(a, b).low:.3f} to {_early(a, b).high:.3f}",
}
OF_PAIR: dict[str, Callable[[Difference], str]] = {
    "gap": lambda found: f"{abs(found.mean):.2f}",
    "signed": lambda found: f"{found.mean:+.2f}".replace("-", "−"),
    "interval": lambda found: _range(found.low, found.high, turned=found.mean < 0),
    "signed interval": lambda found: _range(found.low, found.high),
    "p": _p,
    "verdict": lambda found: found.verdict,
}
OF_ALL: dict[str, Callable[[Sequence[RecordedRun]], str]] = {
    "runs": lambda runs: str(len(runs)),
    "diverged": lambda runs: str(sum(run.status == DIVERGED for run in runs)),
    "hours": lambda runs: f"{sum(_seconds(run) for run in runs) / 3600:.1f}",
}


def _seconds(run: RecordedRun) -> float:
    value: Any = run.result.get("time")
    return float(value) if isinstance(value, int | float) else 0.0
