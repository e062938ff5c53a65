"""Remove duplicates of a run, such as its directory and its copy in a record file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ranger21.report.runs.run import RecordedRun


def without_duplicates(readings: Iterable[RecordedRun | str]) -> list[RecordedRun | str]:
    """Keep the copy of each run that has come furthest, and replace the other copies by sentences.

    Two copies are the same run if all settings are equal, and so is the manifest's id or, without one, the start time.
    """
    kept: list[RecordedRun | str] = []
    places: dict[str, int] = {}
    for reading in readings:
        mark = None if isinstance(reading, str) else _mark(reading)
        if isinstance(reading, str) or mark is None or mark not in places:
            if mark is not None:
                places[mark] = len(kept)
            kept.append(reading)
            continue
        there = kept[places[mark]]
        assert not isinstance(there, str)
        first, other = (reading, there) if _reached(reading) > _reached(there) else (there, reading)
        kept[places[mark]] = first
        kept.append(f"{other.path} is left out: it is the same run as {first.path}.")
    return kept


def _mark(run: RecordedRun) -> str | None:
    """Return a string that identifies a run; None if its manifest has neither id nor start time."""
    begun = [session.get("started") for session in run.sessions[:1]]
    known = run.manifest.get("id") or (begun[0] if begun else None)
    return json.dumps([known, run.config], sort_keys=True, default=str) if isinstance(known, str) else None


def _reached(run: RecordedRun) -> float:
    return float(run.metrics.steps[-1]) if len(run.metrics.steps) else -1.0
