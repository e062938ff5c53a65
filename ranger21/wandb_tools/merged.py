"""Merging of a W&B run's fragments into one file, with each step once and the trainer's best values."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.system.reading import Unreadable, read_json, read_lines, too_much
from ranger21.tracking import number
from ranger21.tracking.loggers.wandb_tracker import BEGUN, SENT
from ranger21.tracking.splits import AVERAGED, HOLDOUT, images_of, split_of, watched
from ranger21.wandb_tools.file import Fragment, merge, pack, read_records, record_class
from ranger21.wandb_tools.rebuilt import beginning

LARGEST_STEP = 2**53  # whole numbers are exact up to it


@dataclass(frozen=True)
class FoundRun:
    """All fragments of one W&B run."""

    run_id: str
    directory: Path  # the run directory, of the newest fragment
    fragments: list[Fragment]  # in order of time
    superseded: str | None = None  # the id of the W&B run that replaced it

    @property
    def received(self) -> bool:
        """Whether W&B received all rows while they were written."""
        return all(fragment.path.with_suffix(SENT).exists() for fragment in self.fragments)

    @property
    def offline(self) -> bool:
        """Whether the newest process records offline; False if W&B has no file of any process."""
        folders = [fragment.path.parent.name for fragment in self.fragments if fragment.path.name != BEGUN]
        newest = max(folders, key=lambda name: name.removeprefix("offline-"), default="")  # the names have the time
        return newest.startswith("offline-")

    @property
    def finished(self) -> bool:
        return (self.directory / "result.json").is_file()


def rows_of(run: FoundRun) -> list[dict[str, Any]]:
    """Return the rows of a run, each step once.

    metrics.jsonl, if it exists, determines the steps and supplies values that W&B lost when a process was killed.
    """
    logged = {int(row["step"]): row for row in merge(run.fragments).rows}
    truth = run.directory / "metrics.jsonl"
    if not truth.is_file():
        return list(logged.values())
    lines = [row for line in read_lines(truth) if type((row := _json(line)).get("step")) is int]
    rows = [row for row in lines if 0 <= row["step"] <= LARGEST_STEP and too_much(row) is None]
    told = merge([Fragment(truth, run.run_id, rows=rows)]).rows
    return [{k: v for k, v in row.items() if v is not None} | logged.get(row["step"], {}) for row in told]


def assemble(run: FoundRun, rows: list[dict[str, Any]]) -> bytes:
    """Return the content of the merged file, a pure function of the fragments and rows."""
    whole, record = merge(run.fragments), record_class()
    newest = [fragment for fragment in run.fragments if fragment.started][-1]
    records = []
    for other in beginning(newest) if newest.path.name == BEGUN else read_records(newest.path)[0]:
        kind = other.WhichOneof("record_type")
        if kind == "run":
            other.run.start_time.FromMicroseconds(round(whole.started * 1e6))
            if "resume" in other.run.DESCRIPTOR.fields_by_name:
                other.run.resume = False  # otherwise W&B would append to the run that it already has
        if kind not in ("history", "summary", "exit") and not (kind == "preempting" and run.finished):
            records.append(other)
    for row in rows:
        entry = record()
        entry.history.step.num = row["step"]
        own = {"_step": row["step"]} | ({"_runtime": row["time"]} if "time" in row else {})
        _fill(entry.history.item, row | own)
        records.append(entry)
    last: dict[str, Any] = {key: value for row in rows for key, value in row.items()}
    summary = record()
    _fill(summary.summary.update, whole.summary | last | {"_step": rows[-1]["step"]} | outcome(run, rows))
    records.append(summary)
    code = 0 if run.finished else whole.exit_code
    if code is not None:
        records.append(record(exit={"exit_code": code}))
    for place, entry in enumerate(records, 1):
        entry.num = place
    return pack(entry.SerializeToString(deterministic=True) for entry in records)


def outcome(run: FoundRun, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run's status, if it has ended, and its best validation: the first one with the highest top-1."""
    try:
        result = read_json(run.directory / "result.json") if run.finished else {}
    except Unreadable:  # use the values in metrics.jsonl
        result = {}
    best = result.get("best")
    if not best or not isinstance(best, dict):
        split = watched(any(f"{HOLDOUT}/acc1" in row for row in rows))
        if any(f"{AVERAGED[split]}/acc1" in row for row in rows):
            split = AVERAGED[split]
        valid = [row for row in rows if math.isfinite(number(row.get(f"{split}/acc1")))]
        top = max(valid, key=lambda row: row[f"{split}/acc1"], default={})
        same = {split, images_of(split)}
        best = {key: value for key, value in top.items() if key in ("step", "epoch") or split_of(key) in same}
    status = {"status": result["status"]} if "status" in result else {}
    return status | {f"best/{key}": value for key, value in best.items()}


def _fill(items: Any, values: dict[str, Any]) -> None:
    for key, value in values.items():
        items.add(nested_key=[key], value_json=json.dumps(value))


def _json(text: bytes) -> dict[str, Any]:
    """Return the object in a line; an empty one if the line is invalid."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
