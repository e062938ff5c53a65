"""Offline W&B files as runs, for where the run directories themselves are not at hand."""

from __future__ import annotations

from pathlib import Path

from ranger21.errors import UserError
from ranger21.report.metrics import from_rows
from ranger21.report.runs import FINISHED, RUNNING, Run, flatten
from ranger21.tracking.wandb_file import Fragment, merge, read_fragment


def read_wandb_runs(files: list[Path]) -> list[Run | str]:
    """A run for each W&B id, its fragments put together; a sentence for a file that tells no configuration."""
    fragments: dict[str, list[Fragment]] = {}
    said: list[Run | str] = []
    for file in files:
        try:
            fragment = read_fragment(file)
        except UserError as error:
            said.append(f"{file} is left out: {error}")
            continue
        fragments.setdefault(fragment.run_id, []).append(fragment)
    return said + [_run(merge(parts), parts) for parts in fragments.values()]


def _run(whole: Fragment, parts: list[Fragment]) -> Run | str:
    """One run. W&B's file tells that a process ended well, not that the run diverged: result.json does."""
    if not whole.config:
        return f"{whole.path} is left out: it holds no configuration (cut before it was written, or empty)."
    notes = ["read from W&B's file: it has no manifest, so the images are taken to be those of the other runs"]
    notes += ["W&B's file is cut or damaged"] if any(part.cut for part in parts) else []
    return Run(
        path=whole.path,
        config=flatten(whole.config),
        status=str(whole.summary.get("status", FINISHED if whole.exit_code == 0 else RUNNING)),
        result={},
        metrics=from_rows(whole.rows),
        notes=tuple(notes),
    )
