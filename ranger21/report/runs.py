"""Find run directories and read their config, metrics and result."""

from __future__ import annotations

import glob
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from ranger21.errors import UserError

Array = NDArray[np.float64]

FINISHED, DIVERGED, RUNNING = "finished", "diverged", "running"


@dataclass(frozen=True)
class Run:
    """One run: its directory, its config with dotted keys, and what it logged, in order of steps."""

    path: Path
    config: dict[str, Any]
    status: str  # FINISHED, DIVERGED, or RUNNING: no end is recorded (it still runs, or was killed)
    result: dict[str, Any]
    rows: list[dict[str, Any]]
    unreadable: int = 0  # broken lines of metrics.jsonl, a cut last line not counted

    @property
    def seed(self) -> int | None:
        """The seed, None where the config has none."""
        return self.config.get("seed")

    def series(self, key: str) -> tuple[Array, Array]:
        """Epochs and the finite values logged there under `key`, in the unit that it was logged in."""
        pairs = [(row["epoch"], row[key]) for row in self.rows if _finite(row.get(key)) and _finite(row.get("epoch"))]
        table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def last(self, key: str) -> float | None:
        """The last finite value logged under `key`, None without one."""
        return next((float(row[key]) for row in reversed(self.rows) if _finite(row.get(key))), None)


def find_runs(patterns: Iterable[str]) -> list[Run]:
    """Read every run that the arguments name: run directories, parents of them, or globs."""
    wanted = list(patterns)
    found: dict[Path, Path] = {}
    for pattern in wanted:
        for place in _expand(pattern):
            for directory in _run_directories(place):
                found.setdefault(directory.resolve(), directory)
    if not found:
        raise UserError(f"no run (a directory with metrics.jsonl) in {', '.join(wanted)}")
    return [read_run(directory) for _, directory in sorted(found.items())]


def read_run(path: Path) -> Run:
    """Read one run directory."""
    rows, unreadable = _read_metrics(path / "metrics.jsonl")
    result = _read_result(path / "result.json")
    status = result.get("status")
    return Run(
        path=path,
        config=_read_config(path / "config.yaml"),
        status=status if status in (FINISHED, DIVERGED) else RUNNING,
        result=result,
        rows=rows,
        unreadable=unreadable,
    )


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dictionary as one with dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _expand(pattern: str) -> list[Path]:
    """The paths that an argument names, itself or as a glob."""
    if Path(pattern).exists():
        return [Path(pattern)]
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if not matches:
        raise UserError(f"nothing is called {pattern}")
    return matches


def _run_directories(place: Path) -> Iterator[Path]:
    """`place` if it is a run directory, else those beneath it."""
    if (place / "metrics.jsonl").is_file():
        yield place
    elif place.is_dir():
        yield from (file.parent for file in place.rglob("metrics.jsonl"))


def _read_config(path: Path) -> dict[str, Any]:
    """The run's config with dotted keys."""
    if not path.is_file():
        raise UserError(f"{path.parent} has metrics.jsonl but no config.yaml, so what it ran is unknown")
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # OmegaConf passes on whatever the YAML parser raises
        raise UserError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no configuration")
    return flatten({str(key): value for key, value in tree.items()})


def _read_result(path: Path) -> dict[str, Any]:
    """What the run recorded at its end; empty while there is no end, or a half-written one."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


def _read_metrics(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Logged rows, one a step and in order of steps, and the count of broken lines before the last.

    Lines of one step are merged and the later value of a key is kept. A step back is a resumed run:
    it replaces everything logged beyond that step.
    """
    rows: dict[int, dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    newest, broken, cut = -1, 0, False
    for line in lines:
        row = _parse(line)
        cut = row is None
        if row is None:
            broken += 1
            continue
        step = int(row["step"])
        if step < newest:
            rows = {old: kept for old, kept in rows.items() if old <= step}
        rows.setdefault(step, {}).update(row)
        newest = step
    return [rows[step] for step in sorted(rows)], broken - cut


def _parse(line: str) -> dict[str, Any] | None:
    """The row that a line holds, None for a broken line."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and _finite(row.get("step")) else None


def _finite(value: Any) -> bool:
    """Whether a logged value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
