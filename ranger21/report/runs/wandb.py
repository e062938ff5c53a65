"""Read runs from offline W&B files, for when the run directories are not available."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ranger21.report.runs.metrics import Metrics, from_rows
from ranger21.report.runs.run import DIVERGED, FINISHED, RUNNING, RecordedRun, finite, not_finite, settings
from ranger21.wandb_tools.file import Fragment, merge, read_fragments


def read_wandb_runs(files: list[Path]) -> list[RecordedRun | str]:
    """Return a run for each W&B id, merged from its fragments; a file without a configuration becomes a sentence."""
    fragments, unreadable = read_fragments(files)
    left_out = [f"a file is left out: {error}" for error in unreadable]
    return [*left_out, *(_run(merge(parts), parts) for parts in fragments.values())]


def _run(whole: Fragment, parts: list[Fragment]) -> RecordedRun | str:
    """Build a run from its merged fragments."""
    if not whole.config:
        return f"{whole.path} is left out: it has no configuration (it is empty, or was cut off before that)."
    config = settings(whole.config)
    if isinstance(config, str):
        return f"{whole.path} is left out: {config}."
    notes = ["read from a W&B file, which has no manifest, so its images are assumed to be those of the other runs"]
    notes += ["the W&B file is cut off or damaged"] if any(part.cut for part in parts) else []
    metrics = from_rows(whole.rows)
    status = _status(whole, config, metrics)
    if status == FINISHED and (ruined := not_finite(metrics)):
        notes.append(ruined)
        status = DIVERGED
    return RecordedRun(whole.path, config, status, {}, metrics, notes=tuple(notes))


def _status(whole: Fragment, config: dict[str, Any], metrics: Metrics) -> str:
    """Return the summary's status; without one, a clean exit before the last epoch counts as a divergence."""
    said = whole.summary.get("status")
    if said in (FINISHED, DIVERGED):
        return str(said)
    if whole.exit_code != 0:
        return RUNNING
    epochs, length = metrics.series("epoch", "step")[1], config.get("trainer.epochs")
    if config.get("trainer.steps") is not None or not finite(length):
        return FINISHED
    return FINISHED if len(epochs) and epochs[-1] > length - 1e-6 else DIVERGED
