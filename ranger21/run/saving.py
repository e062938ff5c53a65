"""Save a run's checkpoints, and restore a run from one."""

import uuid
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ranger21.engine.parts import Progress, TrainState
from ranger21.models.classes import require_same_classes
from ranger21.records import directory as records
from ranger21.records.checkpoint import Checkpoints
from ranger21.records.checkpoint_file import AVERAGE, FORMAT, State
from ranger21.records.directory import RunDirectory
from ranger21.run.build import Parts
from ranger21.run.fitting import is_names, require_fits
from ranger21.run.reports import Reports
from ranger21.run.resuming import Origin
from ranger21.run.unreadable import UnreadableImages
from ranger21.system.errors import UserError
from ranger21.system.wording import shown
from ranger21.tracking.jsonl import JsonLines, require_lines


@dataclass
class RunState:
    """The contents of a checkpoint besides `TrainState`: those that belong to the run, not to its training.

    Attributes:
        run_id: the same in every process of the run; it is also the id of the W&B run.
        metrics_size: bytes of metrics.jsonl when the checkpoint was saved.
        metrics_rest: the lines that could not be written to it before the checkpoint was saved.
        substituted: the number of training images replaced by others since the run began.
        unreadable: sentences about images that could not be read, since the run began.
    """

    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    metrics_size: int = 0
    metrics_rest: str = ""
    substituted: int = 0
    unreadable: list[str] = field(default_factory=list)


def restore(state: TrainState, parts: Parts, origin: Origin, path: Path) -> RunState:
    """Load a checkpoint into `state`, and return the rest of it.

    Raises a UserError, and changes nothing, if the checkpoint does not fit the run.
    """
    parts.world.on_main(lambda: require_restorable(origin.state, path, state, parts, origin.place))
    saved = origin.take(path)
    load(state, saved)
    state.meter.restore(saved["meter"])
    state.nonfinite.restore(saved["nonfinite"])
    state.progress = Progress(**saved["progress"])
    return RunState(
        run_id=saved["wandb_id"],
        metrics_size=saved["metrics_size"],
        metrics_rest=saved.get("metrics_rest", ""),
        substituted=saved.get("substituted", 0),
        unreadable=saved.get("unreadable", []),
    )


def load(state: TrainState, saved: State) -> None:
    """Load the model, its average, the optimizer and the gradient scaler of a checkpoint into `state`."""
    state.model.load_state_dict(saved["model"])
    if state.ema:
        state.ema.module.load_state_dict(saved[AVERAGE])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.scaler.load_state_dict(saved["scaler"])


def require_restorable(saved: State, path: Path, state: TrainState, parts: Parts, place: RunDirectory) -> None:
    """Raise a UserError if the run cannot resume from a checkpoint."""
    data, precision = parts.data, shown(saved["precision"], str)
    if isinstance(saved["data"], dict) and is_names(saved["data"].get("names")):
        require_same_classes(saved["data"]["names"], data.classes, place.path)
    if precision != parts.precision.name:
        raise UserError(
            f"{place.path} was trained in {precision}, and would continue in {parts.precision.name} on this device: "
            "resume it on the same kind of device."
        )
    rest = (state.scaler.state_dict(), parts.plan.total_steps, len(data.classes), parts.watched)
    make = partial(parts.example_optimizer, state.model)
    require_fits(saved, path, state.model, make, *rest, averaged=state.ema is not None)
    step = None if saved.get("metrics_rest") else saved["progress"].get("logged_step")
    require_lines(place.metrics, saved["metrics_size"], step)


class Saver:
    """Saves the checkpoints of a run. Every rank must call `save`; rank 0 writes.

    Args:
        saved_before: whether the run has a checkpoint already.
    """

    def __init__(
        self, parts: Parts, state: TrainState, run_id: str, reports: Reports, unreadable: UnreadableImages,
        saved_before: bool,
    ) -> None:  # fmt: skip
        self.parts, self.state, self.run_id, self.reports = parts, state, run_id, reports
        self.unreadable, self.saved_before = unreadable, saved_before

    def save(self, best: bool) -> None:
        """Save a checkpoint; `best` says whether the last validation is the best so far.

        Raises a UserError if it cannot be written, or if metrics.jsonl lacks lines (which the checkpoint then has).
        """
        sums, substitute = self.state.meter.collect(), self.parts.data.train.substitute
        count = self.unreadable.count() if substitute else 0
        sentences = self.unreadable.sentences() if substitute else []

        def write(place: RunDirectory) -> None:
            lines = self.reports.lines
            assert lines is not None
            lines.sync()
            if sentences:
                place.note_unreadable(sentences)
            saved = self._contents(sums, lines) | {"substituted": count, "unreadable": sentences} | self._origin()
            step = self.state.progress.step
            Checkpoints(place.checkpoints).save(saved, best, step if self.parts.plan.keeps(step) else None)
            if not self.saved_before:
                place.note_saved(step)
            lines.require_written(f"the checkpoint of step {step} has the lines that are missing")
            self.saved_before = True

        def write_in_place() -> None:
            assert self.reports.presence is not None
            self.reports.presence.write(write, self.state.progress.step)

        self.parts.world.on_main(write_in_place)

    def _contents(self, sums: list[float], lines: JsonLines) -> dict[str, Any]:
        state = self.state
        return {
            "format": FORMAT,
            "model": state.model.state_dict(),
            **({AVERAGE: state.ema.module.state_dict()} if state.ema else {}),
            "optimizer": state.optimizer.state_dict(),
            "scaler": state.scaler.state_dict(),
            "precision": self.parts.precision.name,
            "progress": asdict(state.progress),
            "meter": sums,
            "nonfinite": state.nonfinite.state(),
            "metrics_size": lines.size,
            **({"metrics_rest": lines.rest} if lines.rest else {}),
            "wandb_id": self.run_id,
        }

    def _origin(self) -> dict[str, Any]:
        """Return the entries that identify the run and the data of a checkpoint."""
        data = self.parts.data
        return {
            "config": records.to_dict(self.parts.config),
            "data": {"classes": len(data.classes), "names": data.classes, "channels": data.channels},
        }
