"""Find the runs that arguments name, and read their directories, records and W&B's files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.report.runs.metrics import Metrics, read_metrics
from ranger21.report.runs.places import find_places
from ranger21.report.runs.run import Run, assembled, read_settings
from ranger21.report.runs.twice import once
from ranger21.system.errors import UserError
from ranger21.system.processes import granted_cores, in_parallel
from ranger21.system.reading import LARGEST_LINES, Unreadable, read_json

LARGE = 64 * 2**20  # bytes of metrics.jsonl files from which on they are read by several processes


@dataclass(frozen=True)
class Found:
    """The runs, and a sentence on each directory that is one but cannot be read."""

    runs: list[Run]
    left_out: list[str]


def find_runs(patterns: Iterable[str]) -> Found:
    """Read every run that the arguments name: run directories, files of records, their parents, globs, `.wandb` files.

    Raises a UserError if there is none at all that can be read.
    """
    wanted = list(patterns)
    places = find_places(wanted)
    readings = once([*_read_all(places.directories), *_read_records(places.records), *_read_wandb(places.wandb)])
    runs = [reading for reading in readings if isinstance(reading, Run)]
    left_out = [reading for reading in readings if isinstance(reading, str)]
    if not runs:
        reason = f" {' '.join(left_out)}" if left_out else ""
        raise UserError(f"no run (a directory with metrics.jsonl) in {', '.join(wanted)}.{reason}")
    return Found(runs, left_out)


def read_run(path: Path) -> Run | str:
    """Read one run directory, or say why its runs cannot be told from others."""
    config = read_settings(path / "config.yaml")
    if isinstance(config, str):
        return f"{path} is left out: {config}."
    notes = list[str]()
    parts: dict[str, Any] = {}
    for name in ("result.json", "manifest.json"):
        content = _read_json(path / name)
        parts[name] = content if isinstance(content, dict) else {}
        if isinstance(content, str):
            notes.append(content)
    try:
        metrics = read_metrics(path / "metrics.jsonl")
    except Unreadable as error:
        return f"{path} is left out: its metrics.jsonl cannot be read ({error.why})."
    except OSError as error:
        metrics = Metrics.empty()
        notes.append(f"metrics.jsonl cannot be read ({error.strerror})")
    return assembled(path, config, parts["result.json"], parts["manifest.json"], metrics, notes)


def _read_all(directories: list[Path]) -> list[Run | str]:
    """Every run directory, in their order; large ones by several processes."""
    sizes = {path: _size(path / "metrics.jsonl") for path in directories}
    processes = min(granted_cores(), len(directories)) if sum(sizes.values()) > LARGE else 1
    if processes == 1:
        return [read_run(path) for path in directories]
    read = dict(in_parallel(read_run, directories, processes, "reading", sizes.__getitem__, _megabytes))
    return [read[path] for path in directories]


def _read_records(files: list[Path]) -> list[Run | str]:
    """Every run in these files."""
    from ranger21.report.runs.record_runs import read_records  # which makes runs of what it reads

    return [reading for file in files for reading in read_records(file)]


def _read_wandb(files: list[Path]) -> list[Run | str]:
    """Offline W&B files, the fragments of one run put together."""
    if not files:
        return []
    from ranger21.report.runs.wandb import read_wandb_runs  # W&B takes a second to import

    return read_wandb_runs(files)


def _read_json(path: Path) -> dict[str, Any] | str | None:
    """A JSON file's dictionary; None if there is no file, a clause if it holds something else."""
    try:
        return read_json(path)
    except Unreadable as error:
        return None if error.missing else f"{path.name} cannot be read ({error.why})"


def _size(path: Path) -> int:
    try:
        size = path.stat().st_size
        return size if size <= LARGEST_LINES else 0  # it will not be read
    except OSError:
        return 0


def _megabytes(amount: float) -> str:
    return f"{amount / 2**20:,.0f} MB"
