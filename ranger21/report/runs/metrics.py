"""Read metrics.jsonl into columns: fast for millions of lines, and robust to what a killed job leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ranger21.system.reading import read_lines
from ranger21.tracking import number

Array = NDArray[np.float64]
LARGEST_STEP = 2**53  # whole numbers are exact up to it
LARGEST_VALUE = float(np.finfo(np.float32).max)  # figures cannot scale much larger values
BLOCK = 100_000  # lines that are converted to arrays at once


@dataclass(frozen=True)
class Metrics:
    """The metrics that a run logged, by column.

    Attributes:
        steps: every step at which the run logged something, ascending.
        columns: the positions in `steps` and the values of each metric, finite values only.
        repeated: lines that a resumed run wrote again.
        broken: lines that are not a JSON object with a step; a truncated last line does not count.
        undefined: the last step at which a metric was not finite, for each metric to which that happened.
    """

    steps: Array
    columns: dict[str, tuple[NDArray[np.int32], Array]]
    repeated: int = 0
    broken: int = 0
    undefined: dict[str, float] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Metrics:
        """Return the metrics of a run that logged nothing."""
        return cls(np.empty(0), {})

    def undefined_at_last(self, prefixes: tuple[str, ...]) -> tuple[float, list[str]]:
        """Return the last step with a metric that has one of these prefixes, and the metrics not finite there."""
        mine = {key: step for key, step in self.undefined.items() if key.startswith(prefixes)}
        columns = [where for key, (where, _) in self.columns.items() if key.startswith(prefixes)]
        known = [self.steps[where[-1]] for where in columns if len(where)]
        last = max([*known, *mine.values()], default=-1.0)
        return float(last), sorted(key for key, step in mine.items() if step == last)

    def series(self, key: str, x: str) -> tuple[Array, Array]:
        """Return x and y: the values of `x` (`step` or another metric) and of `key` where both were logged."""
        places, values = self.columns.get(key, (np.empty(0, np.int32), np.empty(0)))
        if x == "step":
            return self.steps[places], values
        where, known = self.columns.get(x, (np.empty(0, np.int32), np.empty(0)))
        if len(where) == len(self.steps):
            return known[places], values
        _, left, right = np.intersect1d(places, where, assume_unique=True, return_indices=True)
        return known[right], values[left]


@dataclass
class _ColumnBuilder:
    """Collects lines into columns: the line numbers and values of each metric, NaN for values that are not numbers."""

    steps: list[Array] = field(default_factory=list)
    parts: dict[str, list[tuple[NDArray[np.int32], Array]]] = field(default_factory=dict)
    count: int = 0

    def add(self, keys: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """Add consecutive lines that have the same keys."""
        try:
            table = np.array(rows, dtype=np.float64)  # None becomes NaN
        except (TypeError, ValueError, OverflowError):
            table = np.array([[number(value) for value in row] for row in rows], dtype=np.float64)
        places = np.arange(self.count, self.count + len(rows), dtype=np.int32)
        self.count += len(rows)
        for index, key in enumerate(keys):
            column = table[:, index].copy()
            if key == "step":
                self.steps.append(column)
            else:
                self.parts.setdefault(key, []).append((places, column))


def read_metrics(path: Path) -> Metrics:
    """Read a metrics.jsonl file with `from_lines`. Raises what `read_lines` raises."""
    return from_lines(read_lines(path))


def from_lines(lines: Iterable[bytes]) -> Metrics:
    """Parse the lines of a metrics.jsonl file.

    Lines of the same step are merged; the later value of a metric wins. Where the step goes back, the run was resumed:
    the new lines replace everything that was logged after that step.
    """
    rows, broken = _ColumnBuilder(), 0
    keys: tuple[str, ...] = ()
    block: list[tuple[Any, ...]] = []
    cut = False
    for line in lines:
        row = _parse(line)
        cut = row is None and bool(line.strip(b"\0 \n"))
        if row is None:
            broken += cut
            continue
        if (mine := tuple(row)) != keys or len(block) == BLOCK:
            if block:
                rows.add(keys, block)
            keys, block = mine, []
        block.append(tuple(row.values()))
    if block:
        rows.add(keys, block)
    return _merged(rows, broken - cut)


def from_rows(rows: Iterable[dict[str, Any]]) -> Metrics:
    """Build metrics from rows in memory, as `from_lines` does from lines."""
    lines = _ColumnBuilder()
    for row in rows:
        if _has_step(row):
            lines.add(tuple(row), [tuple(row.values())])
    return _merged(lines, 0)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the row in a line, or None if the line is broken or has no step."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            row = json.loads(line)  # unlike orjson, json accepts NaN and Infinity
        except (ValueError, RecursionError):
            return None
    if not isinstance(row, dict):
        return None
    return row if _has_step(row) else None


def _has_step(row: dict[str, Any]) -> bool:
    return 0 <= number(row.get("step")) <= LARGEST_STEP  # false for NaN


def _merged(lines: _ColumnBuilder, broken: int) -> Metrics:
    """Merge lines of the same step, and drop lines that a resumed run replaced."""
    if not lines.count:
        return Metrics(np.empty(0), {}, broken=broken)
    logged = np.concatenate(lines.steps)
    lowest_after = np.minimum.accumulate(logged[::-1])[::-1]
    kept = logged <= lowest_after  # keep a line unless a later line has a smaller step
    steps, place = np.unique(logged[kept], return_inverse=True)
    position = np.full(len(logged), -1, np.int32)
    position[kept] = place
    columns, undefined, everywhere = {}, dict[str, float](), np.arange(len(steps), dtype=np.int32)
    for key, parts in lines.parts.items():
        where, values = position[np.concatenate([p for p, _ in parts])], np.concatenate([v for _, v in parts])
        good = (where >= 0) & (np.abs(values) <= LARGEST_VALUE)
        bad = where[~good & (where >= 0)]
        if len(bad) and len(lost := np.setdiff1d(bad, where[good])):
            undefined[key] = float(steps[lost[-1]])
        where, values = where[good], values[good]
        last = np.append(where[1:] != where[:-1], True)[: len(where)]  # positions ascend: equal ones are adjacent
        where, values = where[last], values[last]
        columns[key] = (everywhere if len(where) == len(steps) else where, values)
    return Metrics(steps, columns, int(len(logged) - kept.sum()), broken, undefined)
