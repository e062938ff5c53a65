"""Offline W&B files as runs, for where the run directories themselves are not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ranger21.report.runs.metrics import Metrics, from_rows
from ranger21.report.runs.run import DIVERGED, FINISHED, RUNNING, Run, finite, not_finite, settings
from ranger21.wandb_tools.file import Fragment, merge, read_fragments


def read_wandb_runs(files: list[Path]) -> list[Run | str]:
    """A run for each W&B id, its fragments put together; a sentence for a file that tells no configuration."""
    fragments, unreadable = read_fragments(files)
    left_out = [f"a file is left out: {error}" for error in unreadable]
    return [*left_out, *(_run(merge(parts), parts) for parts in fragments.values())]


def _run(whole: Fragment, parts: list[Fragment]) -> Run | str:
    """One run."""
    if not whole.config:
        return f"{whole.path} is left out: it holds no configuration (cut before it was written, or empty)."
    config = settings(whole.config)
    if isinstance(config, str):
        return f"{whole.path} is left out: {config}."
    notes = ["read from W&B's file: it has no manifest, so the images are taken to be those of the other runs"]
    notes += ["W&B's file is cut or damaged"] if any(part.cut for part in parts) else []
    metrics = from_rows(whole.rows)
    status = _status(whole, config, metrics)
    if status == FINISHED and (ruined := not_finite(metrics)):
        notes.append(ruined)
        status = DIVERGED
    return Run(whole.path, config, status, {}, metrics, notes=tuple(notes))


def _status(whole: Fragment, config: dict[str, Any], metrics: Metrics) -> str:
    """As the summary says; where it does not, an end without an error short of the last epoch is a divergence."""
    said = whole.summary.get("status")
    if said in (FINISHED, DIVERGED):
        return str(said)
    if whole.exit_code != 0:
        return RUNNING
    epochs, length = metrics.series("epoch", "step")[1], config.get("trainer.epochs")
    if config.get("trainer.steps") is not None or not finite(length):
        return FINISHED
    return FINISHED if len(epochs) and epochs[-1] > length - 1e-6 else DIVERGED
