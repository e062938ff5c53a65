"""The beginning of a W&B run made from its run directory, where W&B's own files lost it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from ranger21.system.masking import masked_values
from ranger21.system.reading import Unreadable, misfit, read_json, read_yaml
from ranger21.wandb_tools.file import Fragment, record_class

CURE = "restore it"
NAMES = {
    "id": str, "project?": str, "entity?": str, "group?": str, "name?": str, "job_type?": str, "notes?": str,
    "tags?": [str], "sweep?": str,
}  # fmt: skip


def read_begun(path: Path) -> Fragment:
    """Return a fragment without rows from RUN/wandb/init.json and the run's configuration.

    Raises a UserError if one of the two cannot be read.
    """
    names = read_json(path, {}, CURE)
    names = {key: value for key, value in names.items() if value is not None}
    if why := misfit(names, NAMES):
        raise Unreadable(path, why, CURE)
    directory = path.parents[1]
    config = masked_values(read_yaml(directory / "config.yaml", {}, CURE))
    return Fragment(
        path=path,
        run_id=names["id"],
        project=names.get("project"),
        entity=names.get("entity"),
        config=config,
        started=_started(directory) or path.stat().st_mtime,
    )


def beginning(fragment: Fragment) -> list[Any]:
    """Return the records with which the file of such a fragment begins, as wandb's protocol buffers."""
    names = read_json(fragment.path, {}, CURE)
    record = record_class()()
    run = record.run
    fields = {"entity": "entity", "project": "project", "group": "run_group", "name": "display_name"}
    for key, field in (fields | {"job_type": "job_type", "notes": "notes", "sweep": "sweep_id"}).items():
        setattr(run, field, names.get(key) or "")
    run.run_id = fragment.run_id
    run.tags.extend(names.get("tags") or [])
    run.start_time.FromMicroseconds(round(fragment.started * 1e6))
    for key, value in fragment.config.items():
        run.config.update.add(key=key, value_json=json.dumps(value))
    return [record]


def _started(directory: Path) -> float:
    """Return when the run was started, in seconds since 1970; 0 if its manifest does not say it."""
    try:
        sessions = read_json(directory / "manifest.json", {"sessions": [{"started?": str}]}, CURE)["sessions"]
        return datetime.datetime.fromisoformat(sessions[0]["started"]).timestamp()
    except (Unreadable, LookupError, ValueError, OverflowError):
        return 0.0
