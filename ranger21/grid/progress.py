"""Progress of a grid's runs, read from their directories only, for any launcher and from any machine."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ranger21.grid.jobs import MISSING, OUTPUT, STARTED, PlannedRun
from ranger21.grid.slurm import QueuedJob, Slurm
from ranger21.records.directory import in_use, last_values, tail
from ranger21.report.runs.run import DIVERGED, FINISHED, RUNNING
from ranger21.system.terminal import duration, first_that_fits, wide_console
from ranger21.system.wording import one_line
from ranger21.tracking.splits import HOLDOUT, OFFICIAL, watched

STOPPED, QUEUED, STARTING, FAILED = "stopped", "queued", "starting", "failed"
ERROR = re.compile(r"error: (?P<sentence>.*)|(?P<raised>[\w.]*(?:Error|Exception)\b.*)")
HEADS = ("run", "state", "done", "left", "top-1 %", "epoch", "images/s")
COLOURS = {FINISHED: "green", DIVERGED: "magenta", RUNNING: "cyan", STARTING: "cyan", FAILED: "red", STOPPED: "yellow"}


@dataclass(frozen=True)
class RunProgress:
    """The state of a run and the values that it logged last."""

    state: str
    done: float = 0.0  # fraction of the run
    epoch: float | None = None
    top1: float | None = None  # per cent
    images_per_s: float | None = None
    left: float | None = None  # seconds
    error: str = ""
    split: str = OFFICIAL  # the split of the top-1


def progress(
    job: PlannedRun, queued: Mapping[Path, QueuedJob] | None = None, output: Path | None = None
) -> RunProgress:
    """Return the progress of a run.

    A run is `starting` while its process, or its SLURM job, runs and has not opened the run directory yet.

    Args:
        job: the run.
        queued: the runs in SLURM's queue, by directory.
        output: the file with the run's output; None: `launcher.txt` in its directory.
    """
    last = last_values(job.directory / "metrics.jsonl")
    state, error, share = job.state, "", job.share(last)
    if state in (STARTED, MISSING):
        error = _last_error(output or job.directory / OUTPUT)
        waits = (queued or {}).get(job.directory)
        idle = FAILED if error else STOPPED if state == STARTED else MISSING
        if in_use(job.directory):
            state = RUNNING
        elif job.launched or (waits and waits.running):
            state = STARTING
        else:
            state = QUEUED if waits else idle
        error = error if state == FAILED else ""
    time = last.get("time")
    left = None
    if state == RUNNING and time and share:
        left = max(0.0, time * (1 / share - 1))
    split = watched(f"{HOLDOUT}/acc1" in last)
    top1 = last.get(f"{split}/acc1")
    return RunProgress(state, share, last.get("epoch"), top1, last.get("perf/images_per_s"), left, error, split)


def table(jobs: Sequence[PlannedRun], slurm: Slurm, console: Console) -> Table:
    """Return a table with a row for each run, and a summary and the failed runs' errors below.

    It has as many columns as fit into the console's width.
    """
    queued = slurm.queued()
    found = [progress(job, queued, slurm.output(job)) for job in jobs]
    counts = {state: sum(p.state == state for p in found) for state in dict.fromkeys(p.state for p in found)}
    said = [f"{len(jobs)} runs: {', '.join(f'{count} {state}' for state, count in counts.items())}"]
    said += [
        f"{_name(job)}: {one_line(now.error, most=500)}" for job, now in zip(jobs, found, strict=True) if now.error
    ]
    said += [f"warning: {slurm.doubt}"] if slurm.doubt else []
    tables = []
    for columns in range(len(HEADS), 2, -1):
        one = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=Text("\n".join(said)), caption_justify="left")
        for heading in HEADS[:columns]:
            side: Any = "left" if heading in ("run", "state") else "right"
            one.add_column(heading, justify=side, no_wrap=heading != "run", overflow="fold")
        for job, now in zip(jobs, found, strict=True):
            one.add_row(*_cells(job, now)[:columns])
        tables.append(one)
    return first_that_fits(tables, console)


def _cells(job: PlannedRun, now: RunProgress) -> list[str | Text]:
    """Return a run's row of the table."""
    split = " (holdout)" if now.split == HOLDOUT and now.top1 is not None else ""
    return [
        Text(_name(job)),
        Text(now.state, COLOURS.get(now.state, "default")),
        f"{now.done:.0%}" if now.done else "",
        "" if now.left is None else duration(now.left),
        f"{_shown(now.top1, '.2f')}{split}",
        _shown(now.epoch, ".2f"),
        _shown(now.images_per_s, ".0f"),
    ]


def _name(job: PlannedRun) -> str:
    """Return the last two folders of a run's directory."""
    return one_line("/".join(job.directory.parts[-2:]))


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _last_error(output: Path) -> str:
    """Return the error message, or a traceback's last line, among the last lines of a run's output; else ""."""
    lines = [line for line in tail(output) if line.strip()][-5:]  # srun and the batch script print lines after it
    found = [match for line in lines if (match := ERROR.match(line))]
    return found[-1]["sentence"] or found[-1]["raised"] if found else ""


def show(jobs: Callable[[], Sequence[PlannedRun]], slurm: Slurm, every: float | None) -> None:
    """Print the table of the runs once, or every `every` seconds until Ctrl-C.

    Args:
        jobs: returns the runs; called each time because the runs may change.
        slurm: the grid's submissions.
        every: seconds between tables; None: print one table.
    """
    console = wide_console(160)
    live = Live(console=console, auto_refresh=False) if every is not None and console.is_terminal else None
    with live or contextlib.nullcontext():
        while True:
            now = table(jobs(), slurm, console)
            if live:
                live.update(now, refresh=True)
            else:
                console.print(now)
            if every is None:
                return
            time.sleep(every)
