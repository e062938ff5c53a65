"""Runs that are there twice, such as in their directory and in a file of records: each counts once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ranger21.report.runs.run import Run


def once(readings: Iterable[Run | str]) -> list[Run | str]:
    """Of runs that are one and the same, keep the one that has come furthest; a sentence stands for each other one.

    Two are the same if they have all settings in common, and the id of their manifests, or the moment they began.
    """
    kept: list[Run | str] = []
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


def _mark(run: Run) -> str | None:
    """What tells a run from all others; None where the manifest does not say."""
    begun = [session.get("started") for session in run.sessions[:1]]
    known = run.manifest.get("id") or (begun[0] if begun else None)
    return json.dumps([known, run.config], sort_keys=True, default=str) if isinstance(known, str) else None


def _reached(run: Run) -> float:
    return float(run.metrics.steps[-1]) if len(run.metrics.steps) else -1.0
