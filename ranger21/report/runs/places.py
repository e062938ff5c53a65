"""Find run directories, record files and offline W&B files at or below the paths on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ranger21.config.arguments import expand
from ranger21.report.runs import record_file
from ranger21.system.errors import UserError

GIVE = f"give run directories, parents of them, {record_file.NAME}, quoted globs, or .wandb files"
PACKED = ".jsonl.gz"


@dataclass(frozen=True)
class Places:
    """The paths that were found, sorted and without duplicates.

    Attributes:
        directories: run directories.
        records: record files.
        wandb: offline W&B files at places that have neither run directories nor record files.
    """

    directories: list[Path]
    records: list[Path]
    wandb: list[Path]


def find_places(patterns: Iterable[str]) -> Places:
    """Search the patterns for runs. Raises a UserError for a pattern that matches nothing or cannot be read."""
    directories: dict[Path, Path] = {}
    records: dict[Path, Path] = {}
    files: dict[Path, Path] = {}
    for pattern in patterns:
        try:
            for place in expand(pattern, GIVE):
                found, packed = list(_run_directories(place)), _records(place)
                for kind, paths in ((directories, found), (records, packed)):
                    for path in paths:
                        kind.setdefault(path.resolve(), path)
                for file in () if found or packed else _wandb_files(place):
                    files.setdefault(file.resolve(), file)
        except OSError as error:
            raise UserError(f"{error.filename or pattern} cannot be read ({error.strerror}): {GIVE}.") from error
    own, packed = ([path for _, path in sorted(kind.items())] for kind in (directories, records))
    return Places(own, packed, sorted(files.values()))


def _run_directories(place: Path) -> Iterator[Path]:
    """Yield `place` if it is a run directory, otherwise the run directories below it."""
    if _is_run(place):
        yield place
    elif place.is_dir():
        for name in ("metrics.jsonl", "manifest.json"):
            yield from (file.parent for file in place.rglob(name) if _is_run(file.parent))


def _is_run(place: Path) -> bool:
    """Whether this is a run directory, including one whose run stopped before its first logged line."""
    metrics = place / "metrics.jsonl"
    return (metrics.exists() and not metrics.is_dir()) or all(
        (place / n).is_file() for n in ("config.yaml", "manifest.json")
    )


def _records(place: Path) -> list[Path]:
    """Return `place` if it is a record file, otherwise the files below it that are named runs.jsonl.gz."""
    if place.is_dir():
        return [] if _is_run(place) else sorted(place.rglob(record_file.NAME))
    return [place] if place.name.endswith(PACKED) else []


def _wandb_files(place: Path) -> list[Path]:
    """Return `place` if it is a `.wandb` file, otherwise the `.wandb` files below it."""
    return [place] if place.suffix == ".wandb" and place.is_file() else sorted(place.rglob("*.wandb"))
