"""What a run logged, by columns: read fast enough for millions of lines, and whatever a killed job left in the file."""

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
LARGEST_VALUE = float(np.finfo(np.float32).max)  # figures cannot scale what is far beyond it
BLOCK = 100_000  # lines that become arrays at a time


@dataclass(frozen=True)
class Metrics:
    """The steps at which a run logged something, rising, and for each metric where it did and the finite values.

    `undefined` has for each metric the last step at which it was logged and was not finite, if there is one.
    `repeated` counts lines that a resumed run wrote again, `broken` lines that are no JSON object with a step; the
    last line is not counted if it is cut.
    """

    steps: Array
    columns: dict[str, tuple[NDArray[np.int32], Array]]  # metric: positions in `steps`, values
    repeated: int = 0
    broken: int = 0
    undefined: dict[str, float] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Metrics:
        """Of a run that logged nothing."""
        return cls(np.empty(0), {})

    def undefined_at_last(self, prefixes: tuple[str, ...]) -> tuple[float, list[str]]:
        """The last step that has a metric with one of these prefixes, and which of them were not finite there."""
        mine = {key: step for key, step in self.undefined.items() if key.startswith(prefixes)}
        columns = [where for key, (where, _) in self.columns.items() if key.startswith(prefixes)]
        known = [self.steps[where[-1]] for where in columns if len(where)]
        last = max([*known, *mine.values()], default=-1.0)
        return float(last), sorted(key for key, step in mine.items() if step == last)

    def series(self, key: str, x: str) -> tuple[Array, Array]:
        """The values of `key` against those of `x` (`step` or another metric), where both were logged."""
        places, values = self.columns.get(key, (np.empty(0, np.int32), np.empty(0)))
        if x == "step":
            return self.steps[places], values
        where, known = self.columns.get(x, (np.empty(0, np.int32), np.empty(0)))
        if len(where) == len(self.steps):
            return known[places], values
        _, left, right = np.intersect1d(places, where, assume_unique=True, return_indices=True)
        return known[right], values[left]


@dataclass
class _Lines:
    """Lines as they come: for each metric the lines that have it, and its values, NaN where it is no number."""

    steps: list[Array] = field(default_factory=list)
    parts: dict[str, list[tuple[NDArray[np.int32], Array]]] = field(default_factory=dict)
    count: int = 0

    def add(self, keys: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        """Takes consecutive lines with the same keys."""
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
    """Read metrics.jsonl, as `from_lines` takes it. The errors are those of `read_lines`."""
    return from_lines(read_lines(path))


def from_lines(lines: Iterable[bytes]) -> Metrics:
    """Take the lines of a metrics.jsonl. Lines of one step are merged, the later value of a metric being kept.

    A step back is a resumed run: it replaces everything logged beyond that step.
    """
    rows, broken = _Lines(), 0
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
    """The same of rows that are in memory."""
    lines = _Lines()
    for row in rows:
        if _has_step(row):
            lines.add(tuple(row), [tuple(row.values())])
    return _merged(lines, 0)


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row that a line holds, None for a broken line or one without a step."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            row = json.loads(line)  # which knows NaN and Infinity
        except (ValueError, RecursionError):
            return None
    if not isinstance(row, dict):
        return None
    return row if _has_step(row) else None


def _has_step(row: dict[str, Any]) -> bool:
    return 0 <= number(row.get("step")) <= LARGEST_STEP  # which NaN is not


def _merged(lines: _Lines, broken: int) -> Metrics:
    """One position a step; what was logged beyond a step that comes again later is dropped."""
    if not lines.count:
        return Metrics(np.empty(0), {}, broken=broken)
    logged = np.concatenate(lines.steps)
    lowest_after = np.minimum.accumulate(logged[::-1])[::-1]
    kept = logged <= lowest_after  # no later line has a smaller step
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
        last = np.append(where[1:] != where[:-1], True)[: len(where)]  # positions never fall: equal ones are neighbours
        where, values = where[last], values[last]
        columns[key] = (everywhere if len(where) == len(steps) else where, values)
    return Metrics(steps, columns, int(len(logged) - kept.sum()), broken, undefined)
