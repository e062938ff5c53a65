"""Write a comparison as table.md, table.csv and pairs.csv."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ranger21.report.groups import looked_at
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.grouping import unnamed_differences
from ranger21.report.groups.origins import mixtures, name_seeds
from ranger21.report.groups.summary import GroupSummary, failure_pairs, loss_pairs, top1_pairs
from ranger21.report.groups.tuned import tuning_notes
from ranger21.report.runs.run import DIVERGED, FINISHED, RUNNING, RecordedRun, finite
from ranger21.report.statistics.equivalence import margins
from ranger21.report.statistics.pairs import Estimate, Pair
from ranger21.report.statistics.ttests import ENOUGH_SEEDS
from ranger21.report.tables.failure_notes import counts_as, failure_notes, failure_sentences, what_counts
from ranger21.report.tables.text import create, escaped, table_lines
from ranger21.system.wording import counted, defused
from ranger21.tracking.splits import HOLDOUT

MARKS = {FINISHED: "", DIVERGED: "×", RUNNING: "○"}
SAID = {FINISHED: "finished", DIVERGED: "diverged", RUNNING: "running or stopped"}
CONTINUED = (
    "continued a finished run (continue_from): its steps, epochs and images include those of that run, but its time, "
    "curves and best top-1 do not."
)
MANY_PAIRS = 15
PAIRS: dict[str, Callable[[Sequence[GroupSummary]], list[Pair]]] = {"top1": top1_pairs, "loss": loss_pairs}


def sentences(rows: Sequence[GroupSummary]) -> list[str]:
    """Return the verdict on each pair of groups by final top-1, the better group first, and by how often they fail.

    If there are many pairs, those without a verdict are listed for the first group only.
    """
    told, unsaid = told_pairs(rows)
    said = [pair.difference.sentence(pair.a, pair.b, unit="points") for pair in told]
    said += [f"No verdict on {counted(unsaid, 'further pair')} either (see pairs.csv)."] if unsaid else []
    return said + failure_sentences(rows)


def told_pairs(rows: Sequence[GroupSummary]) -> tuple[list[Pair], int]:
    """Return the pairs of groups that are told one by one, and the number of the others, which have no verdict."""
    found = top1_pairs(rows)
    told = [p for p in found if len(found) <= MANY_PAIRS or p.difference.verdict != "cannot tell" or p.a == found[0].a]
    return told, len(found) - len(told)


def notes(rows: Sequence[GroupSummary]) -> list[str]:
    """Return the sentences below the table: what the figures are, and what is missing from them."""
    finished = "Mean ± sample standard deviation over the n seeds with finished runs."
    validated = "Accuracies, loss and best epoch come from validation."
    said = [what_counts(rows) or f"{finished} {validated}", *failure_notes(rows)]
    said += looked_at.sentences([row.group for row in rows])
    said += [f"{row.group.label} {CONTINUED}" for row in rows if row.group.settings.get("continue_from")]
    for row in rows:
        said += [_not_finished(row.group.label, run) for run in row.group.runs if run.status != FINISHED]
    for row in rows:
        said += _seed_notes(row)
    if len(several := margins(run for row in rows for run in row.group.runs)) > 1:
        told = ", ".join(f"{margin:g}" for margin in several)
        said.append(f"The runs' protocols set different equivalence margins ({told} points): the smallest is used.")
    said += tuning_notes([row.group for row in rows])
    if hidden := unnamed_differences([row.group for row in rows if not any(row.group.trials)]):
        said.append(f"Other settings that differ between these groups: {', '.join(hidden)}.")
    if few := [f"{row.group.label} (n = {row.n})" for row in rows if row.n < ENOUGH_SEEDS]:
        said.append(f"No conclusion with fewer than {ENOUGH_SEEDS} seeds: {', '.join(few)}.")
    return said + mixtures([row.group for row in rows])


def _seed_notes(row: GroupSummary) -> list[str]:
    """Return sentences on a group's seeds: several runs of one, seeds in common, runs' own notes, resumed runs."""
    label, ended = row.group.label, [run for run in row.group.runs if run.status != RUNNING]
    said, seeds = [], [run.seed for run in ended]
    if twice := sorted({str(seed) for seed in seeds if seeds.count(seed) > 1}):
        how = "their mean counts as one seed, and as a failure if one of them failed"
        said.append(f"{label}: several ended runs have {name_seeds(twice)}: {how}.")
    said += _shared_seeds(label, ended)
    said += [f"{label}, seed {run.seed}: {note}." for run in row.group.runs for note in run.notes]
    if again := [f"{run.seed} ({counted(run.resumed, 'time')})" for run in row.group.runs if run.resumed]:
        said.append(f"{label}: stopped and resumed: {name_seeds(again)}.")
    return said


def _shared_seeds(label: str, runs: Sequence[RecordedRun]) -> list[str]:
    """Return a sentence if all runs share init_seed or data_seed, so that their spread does not include its effect."""
    both = [str(run.seed).partition("/") for run in runs if isinstance(run.seed, int | str)]
    inits, data = {init for init, _, _ in both}, {last or init for init, _, last in both}
    if len(inits) == 1 < len(data):
        common = f"all runs share init_seed {inits.pop()}"
        return [f"{label}: {common}, so their spread is due to the order and augmentation of the data alone."]
    if len(data) == 1 < len(inits):
        return [f"{label}: all runs share data_seed {data.pop()}, so their spread is due to the initial weights alone."]
    return []


def _not_finished(label: str, run: RecordedRun) -> str:
    """Return a sentence on a run that diverged or has not ended."""
    epoch = run.last("epoch")
    reached = "before its first logged step" if epoch is None else f"at epoch {epoch:.4g}"
    top1 = run.last(f"{run.watched}/acc1")
    shown = "" if top1 is None else f", top-1 {top1:.2f} %" + (" of the holdout" if run.watched == HOLDOUT else "")
    if run.status == DIVERGED:
        step = run.result.get("diverged_at_step", run.result.get("step"))
        where = reached if not finite(step) else f"at step {step} ({reached.removeprefix('at ')})"
        return f"{MARKS[DIVERGED]} {label}, seed {run.seed}: {SAID[DIVERGED]} {where}; {counts_as(run)}."
    return f"{MARKS[RUNNING]} {label}, seed {run.seed}: {SAID[RUNNING]} {reached}{shown}; not in the means."


def _cell(value: Estimate | None, digits: int, row: GroupSummary, scale: float = 1.0) -> str:
    """Return `mean ± sd` with this many decimals, and n if it differs from that of the row."""
    if value is None:
        return "–"
    spread = "" if value.sd is None else f" ± {value.sd / scale:.{digits}f}"
    return f"{value.mean / scale:.{digits}f}{spread}" + (f" (n = {value.n})" if value.n != row.n else "")


def _alone(row: GroupSummary) -> str:
    """Return the mean of finished runs if any run failed, else a dash."""
    found = row.finished_top1
    return "–" if found is None or not row.failures.count else f"{_cell(found, 2, row)}"


def _interval(value: Estimate | None) -> str:
    """Return the 95 % interval of a mean as text."""
    return "–" if value is None or value.low is None else f"{value.low:.2f} to {value.high:.2f}"


def time_unit(longest: float) -> tuple[str, float]:
    """Return the largest unit of time that is no longer than `longest` (seconds), and its length in seconds."""
    return ("h", 3600.0) if longest >= 3600 else ("min", 60.0) if longest >= 60 else ("s", 1.0)


def columns(rows: Sequence[GroupSummary]) -> dict[str, Callable[[GroupSummary], str]]:
    """Return the heading of each column and a function that makes its cells. The unit of time fits the longest run."""
    longest = max((row.time.mean for row in rows if row.time), default=0.0)
    unit, scale = time_unit(longest)
    lost = any(row.failures.count for row in rows)
    alone: dict[str, Callable[[GroupSummary], str]] = {"finished runs only (%)": lambda row: _alone(row)}
    return {
        "group": lambda row: row.group.label,
        "n": lambda row: str(row.n),
        "diverged": lambda row: str(row.failures) if lost else "0",
        "running": lambda row: str(len(row.group.having(RUNNING))),
        "seeds": lambda row: ", ".join(f"{run.seed}{MARKS[run.status]}" for run in row.group.runs),
        "final top-1 (%)": lambda row: _cell(row.final_top1, 2, row),
        "95 % interval": lambda row: _interval(row.final_top1),
        **(alone if lost else {}),
        "best top-1 (%)": lambda row: _cell(row.best_top1, 2, row),
        "best epoch": lambda row: _cell(row.best_epoch, 1, row),
        "top-5 (%)": lambda row: _cell(row.final_top5, 2, row),
        "loss": lambda row: _cell(row.final_loss, 3, row),
        f"time ({unit})": lambda row: _cell(row.time, 1, row, scale),
        "images/s": lambda row: _cell(row.images_per_s, 0, row),
    }


def markdown(comparison: GroupComparison) -> str:
    """Return a comparison as a section in Markdown: the table, its notes, and the verdicts on pairs."""
    rows = comparison.rows
    shown = columns(rows)
    cells = [[cell(row) for cell in shown.values()] for row in rows]
    lines = table_lines(list(shown), cells, right=range(1, len(shown)))
    parts = [f"## {escaped(comparison.title)}", "\n".join(lines), _list(notes(rows))]
    if said := sentences(rows):
        parts += ["Each pair of groups, by final top-1:", _list(said)]
    return "\n\n".join(parts) + "\n"


def _list(phrases: Sequence[str]) -> str:
    return "\n".join(f"- {escaped(phrase)}" for phrase in phrases)


STATS: dict[str, Callable[[GroupSummary], Estimate | None]] = {
    "final_top1_percent": lambda row: row.final_top1,
    "final_top1_of_finished_percent": lambda row: row.finished_top1,
    "best_top1_percent": lambda row: row.best_top1,
    "best_epoch": lambda row: row.best_epoch,
    "final_top5_percent": lambda row: row.final_top5,
    "final_loss": lambda row: row.final_loss,
    "time_s": lambda row: row.time,
    "images_per_s": lambda row: row.images_per_s,
}


def write_csv(comparisons: Sequence[GroupComparison], path: Path) -> None:
    """Write the tables with full precision: separate columns for mean, sd and interval, times in seconds."""
    with create(path) as file:
        writer = csv.writer(file)
        head = [
            "comparison",
            "group",
            "n",
            "diverged",
            "diverged_low_percent",
            "diverged_high_percent",
            "running",
            "seeds",
        ]
        writer.writerow(head + [f"{name}_{part}" for name in STATS for part in ("mean", "sd", "low", "high")])
        for comparison in comparisons:
            for row in comparison.rows:
                low, high = row.failures.interval or (None, None)
                share = [None if end is None else 100 * end for end in (low, high)]
                counts = [row.n, row.failures.count, *share, len(row.group.having(RUNNING))]
                seeds = " ".join(str(run.seed) for run in row.group.runs)
                figures = [cell for get in STATS.values() for cell in _parts(get(row))]
                writer.writerow([defused(comparison.title), defused(row.group.label), *counts, seeds, *figures])


def _parts(value: Estimate | None) -> tuple[float | None, ...]:
    return (value.mean, value.sd, value.low, value.high) if value else (None,) * 4


def write_pairs(comparisons: Sequence[GroupComparison], path: Path) -> None:
    """Write every pair of groups of every comparison with full precision.

    Pairs are compared by final top-1 (points), final loss (nats) and how often they diverge (points of the share).
    """
    fields = ("mean", "low", "high", "p", "p_adjusted", "low_adjusted", "high_adjusted", "n_a", "n_b", "paired")
    close = ("margin", "p", "p_adjusted", "within")
    with create(path) as file:
        writer = csv.writer(file)
        head = ["comparison", "figure", "a", "b", *fields, "diverged_a", "diverged_b", "verdict_on_a"]
        writer.writerow([*head, "margin", "p_margin", "p_margin_adjusted", "within_margin", "test"])
        for comparison in comparisons:
            title, diverged = comparison.title, {row.group.label: row.failures.count for row in comparison.rows}
            for name, find in PAIRS.items():
                for a, b, difference in find(comparison.rows):
                    numbers: list[Any] = [getattr(difference, field) for field in fields]
                    numbers += [diverged[a], diverged[b], difference.verdict]
                    numbers += [getattr(difference.equivalence, field, None) for field in close]
                    writer.writerow([defused(title), name, defused(a), defused(b), *numbers, difference.test])
            for a, b, found in failure_pairs(comparison.rows):
                numbers = [found.mean, None, None, found.p, found.p_adjusted, None, None, found.a.n, found.b.n, False]
                numbers += [found.a.count, found.b.count, found.verdict, *[None] * len(close)]
                writer.writerow([defused(title), "diverged", defused(a), defused(b), *numbers, "Fisher"])
