"""Find the runs that the command line names, and read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.report.runs.duplicates import without_duplicates
from ranger21.report.runs.metrics import Metrics, read_metrics
from ranger21.report.runs.places import find_places
from ranger21.report.runs.run import RecordedRun, assembled, read_settings
from ranger21.system.errors import UserError
from ranger21.system.processes import granted_cores, in_parallel
from ranger21.system.reading import LARGEST_LINES, Unreadable, read_json

LARGE = 64 * 2**20  # bytes of metrics.jsonl in all: with more, several processes read


@dataclass(frozen=True)
class FoundRuns:
    """The runs that were read.

    Attributes:
        left_out: a sentence for each run that was found but not read.
    """

    runs: list[RecordedRun]
    left_out: list[str]


def find_runs(patterns: Iterable[str]) -> FoundRuns:
    """Read every run that the patterns name.

    Args:
        patterns: run directories, record files, folders that contain them, globs, or `.wandb` files.

    Raises:
        UserError: no run could be read.
    """
    wanted = list(patterns)
    places = find_places(wanted)
    readings = without_duplicates(
        [*_read_all(places.directories), *_read_records(places.records), *_read_wandb(places.wandb)]
    )
    runs = [reading for reading in readings if isinstance(reading, RecordedRun)]
    left_out = [reading for reading in readings if isinstance(reading, str)]
    if not runs:
        reason = f" {' '.join(left_out)}" if left_out else ""
        raise UserError(f"no run (a directory with metrics.jsonl) in {', '.join(wanted)}.{reason}")
    return FoundRuns(runs, left_out)


def read_run(path: Path) -> RecordedRun | str:
    """Read one run directory, or return a sentence that says why the run is left out."""
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


def _read_all(directories: list[Path]) -> list[RecordedRun | str]:
    """Read run directories, in their order; use several processes if the files are large."""
    sizes = {path: _size(path / "metrics.jsonl") for path in directories}
    processes = min(granted_cores(), len(directories)) if sum(sizes.values()) > LARGE else 1
    if processes == 1:
        return [read_run(path) for path in directories]
    read = dict(in_parallel(read_run, directories, processes, "reading", sizes.__getitem__, _megabytes))
    return [read[path] for path in directories]


def _read_records(files: list[Path]) -> list[RecordedRun | str]:
    """Read every run in these record files."""
    from ranger21.report.runs.record_runs import read_records

    return [reading for file in files for reading in read_records(file)]


def _read_wandb(files: list[Path]) -> list[RecordedRun | str]:
    """Read offline W&B files, merging the fragments of each run."""
    if not files:
        return []
    from ranger21.report.runs.wandb import read_wandb_runs  # W&B takes a second to import

    return read_wandb_runs(files)


def _read_json(path: Path) -> dict[str, Any] | str | None:
    """Return the dictionary in a JSON file, None if the file is missing, or a clause that says why it is unreadable."""
    try:
        return read_json(path)
    except Unreadable as error:
        return None if error.missing else f"{path.name} cannot be read ({error.why})"


def _size(path: Path) -> int:
    try:
        size = path.stat().st_size
        return size if size <= LARGEST_LINES else 0  # a larger file is refused, not read
    except OSError:
        return 0


def _megabytes(amount: float) -> str:
    return f"{amount / 2**20:,.0f} MB"
