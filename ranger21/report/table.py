"""The comparison as a table: Markdown, CSV, and for the terminal."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from ranger21.report.groups import unnamed_differences
from ranger21.report.runs import DIVERGED, FINISHED, RUNNING, Run
from ranger21.report.summary import Row, Stat

ENOUGH_SEEDS = 3
MARKS = {FINISHED: "", DIVERGED: "×", RUNNING: "○"}


def notes(rows: Sequence[Row]) -> list[str]:
    """The sentences beneath the table: what the figures are, and what they do not hold."""
    said = ["Mean ± sample standard deviation over the n finished runs; all but time and images/s are of validation."]
    for row in rows:
        said += [_left_out(row.group.label, run) for run in row.group.runs if run.status != FINISHED]
    for row in rows:
        seeds = [run.seed for run in row.group.having(FINISHED)]
        if twice := sorted({str(seed) for seed in seeds if seeds.count(seed) > 1}):
            said.append(f"{row.group.label}: more than one finished run has seed {', '.join(twice)}; each is counted.")
        if broken := sum(run.unreadable for run in row.group.runs):
            said.append(f"{row.group.label}: {broken} unreadable line(s) of metrics.jsonl skipped.")
    if hidden := unnamed_differences([row.group for row in rows]):
        said.append(f"Also different between these groups: {', '.join(hidden)}.")
    if few := [f"{row.group.label} (n = {_seeds(row)})" for row in rows if _seeds(row) < ENOUGH_SEEDS]:
        said.append(f"Fewer than {ENOUGH_SEEDS} seeds permit no conclusion: {', '.join(few)}.")
    return said


def _seeds(row: Row) -> int:
    """How many seeds have finished."""
    return len({run.seed for run in row.group.having(FINISHED)})


def _left_out(label: str, run: Run) -> str:
    """The sentence on a run that the means leave out."""
    epoch = run.last("epoch")
    reached = "before its first logged step" if epoch is None else f"at epoch {epoch:.4g}"
    top1 = run.last("val/acc1")
    shown = "" if top1 is None else f", top-1 {top1:.2f} %"
    if run.status == DIVERGED:
        step = run.result.get("diverged_at_step", run.result.get("step"))
        where = reached if step is None else f"at step {step} ({reached.removeprefix('at ')})"
        return f"{MARKS[DIVERGED]} {label}, seed {run.seed}: diverged {where}; not in the means."
    return f"{MARKS[RUNNING]} {label}, seed {run.seed}: running or stopped {reached}{shown}; not in the means."


def _cell(value: Stat | None, digits: int, row: Row, scale: float = 1.0) -> str:
    """`mean ± sd` with so many decimals, and the count where not every finished run has a value."""
    if value is None:
        return "–"
    spread = "" if value.sd is None else f" ± {value.sd / scale:.{digits}f}"
    return f"{value.mean / scale:.{digits}f}{spread}" + (f" (n = {value.n})" if value.n != row.n else "")


def _columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Heading and cell of each column; the time's unit is the largest that the longest run fills."""
    longest = max((row.time.mean for row in rows if row.time), default=0.0)
    unit, scale = ("h", 3600.0) if longest >= 3600 else ("min", 60.0) if longest >= 60 else ("s", 1.0)
    return {
        "group": lambda row: row.group.label,
        "n": lambda row: str(row.n),
        "diverged": lambda row: str(len(row.group.having(DIVERGED))),
        "running": lambda row: str(len(row.group.having(RUNNING))),
        "seeds": lambda row: ", ".join(f"{run.seed}{MARKS[run.status]}" for run in row.group.runs),
        "final top-1 (%)": lambda row: _cell(row.final_top1, 2, row),
        "best top-1 (%)": lambda row: _cell(row.best_top1, 2, row),
        "best epoch": lambda row: _cell(row.best_epoch, 1, row),
        "final loss": lambda row: _cell(row.final_loss, 3, row),
        f"time ({unit})": lambda row: _cell(row.time, 1, row, scale),
        "images/s": lambda row: _cell(row.images_per_s, 0, row),
    }


def markdown(rows: Sequence[Row]) -> str:
    """The table and its notes in Markdown."""
    columns = _columns(rows)
    lines = [list(columns), ["---"] + ["---:"] * (len(columns) - 1)]
    lines += [[cell(row).replace("|", "\\|") for cell in columns.values()] for row in rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{body}\n\n" + "\n".join(f"- {note}" for note in notes(rows)) + "\n"


def terminal(rows: Sequence[Row]) -> Table:
    """The table for a terminal; `notes` belong beneath it."""
    columns = _columns(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(columns):
        table.add_column(heading, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(cell(row).replace("[", "\\[") for cell in columns.values()))
    return table


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The table with full precision: mean and sd apart, the time in seconds, an empty cell for no value."""
    stats: dict[str, Callable[[Row], Stat | None]] = {
        "final_top1_percent": lambda row: row.final_top1,
        "best_top1_percent": lambda row: row.best_top1,
        "best_epoch": lambda row: row.best_epoch,
        "final_loss": lambda row: row.final_loss,
        "time_s": lambda row: row.time,
        "images_per_s": lambda row: row.images_per_s,
    }
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        head = ["group", "n", "diverged", "running", "seeds"]
        writer.writerow(head + [f"{name}_{part}" for name in stats for part in ("mean", "sd")])
        for row in rows:
            counts = [row.n, len(row.group.having(DIVERGED)), len(row.group.having(RUNNING))]
            seeds = " ".join(str(run.seed) for run in row.group.runs)
            values = [get(row) for get in stats.values()]
            parts = [part for value in values for part in ((value.mean, value.sd) if value else (None, None))]
            writer.writerow([row.group.label, *counts, seeds, *parts])
