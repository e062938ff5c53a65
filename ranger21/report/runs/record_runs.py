"""Read the runs in record files, which may come from strangers."""

from __future__ import annotations

import json
from pathlib import Path

from ranger21.report.runs.metrics import from_lines
from ranger21.report.runs.record_file import Entry, entries
from ranger21.report.runs.run import NO_CONFIG, RecordedRun, assembled, settings
from ranger21.system.errors import UserError
from ranger21.system.reading import LARGEST_YAML, Unreadable
from ranger21.system.wording import one_line


def read_records(path: Path) -> list[RecordedRun | str]:
    """Read the runs of a record file. In place of a run that is left out, return a sentence that says why."""
    found: list[RecordedRun | str] = []
    try:
        for entry in entries(path):
            found.append(entry if isinstance(entry, str) else _read(path / one_line(entry.name), entry))
    except OSError as error:
        found.append(f"{path} is left out: it cannot be read ({error.strerror}).")
    except Unreadable as error:
        found.append(f"{path} is left out: it cannot be read ({error.why}).")
    except UserError as error:
        found.append(str(error))
    return found


def _read(path: Path, entry: Entry) -> RecordedRun | str:
    """Build a run from an entry, or return a sentence that says why it is left out."""
    metrics = from_lines(entry.metrics())
    if not entry.whole:
        return f"{path} is left out: its digest does not match (changed or damaged)."
    tree = entry.parts.get("config")
    if tree and len(json.dumps(tree)) > LARGEST_YAML:
        return f"{path} is left out: its configuration has more than {LARGEST_YAML >> 10} KiB."
    config = settings(tree) if tree else NO_CONFIG
    if isinstance(config, str):
        return f"{path} is left out: {config}."
    return assembled(path, config, entry.parts.get("result", {}), entry.parts.get("manifest", {}), metrics)
