"""Begin a new run with the final state of a finished one, its parent (continue_from)."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranger21.config import Config, result_values
from ranger21.engine.parts import Progress, TrainState
from ranger21.records.checkpoint import Checkpoints
from ranger21.records.checkpoint_file import State
from ranger21.records.directory import RunDirectory, differences, read_config
from ranger21.records.manifest import read_manifest
from ranger21.run.build import Parts
from ranger21.run.plan import make_plan
from ranger21.run.resuming import require_own
from ranger21.run.saving import load, require_restorable
from ranger21.system.errors import UserError
from ranger21.system.reading import read_json

log = logging.getLogger("ranger21")
# Settings in which a run may differ from its parent, besides `schedule`.
FREE = (
    "continue_from", "experiment", "trainer.epochs", "trainer.steps", "trainer.eval_every_epochs",
    "trainer.eval_every_steps", "trainer.final_validation",
)  # fmt: skip


def begin_with_parent(state: TrainState, parts: Parts, own: RunDirectory, data: Mapping[str, Any]) -> dict[str, Any]:
    """Load the final state of the run `continue_from` into `state`, and return what the manifest records of it.

    Step and images continue; times, counts of skipped steps and the best validation begin anew.

    Args:
        own: the new run's directory.
        data: the new run's data, as in a manifest.

    Raises:
        UserError: if that run is not finished or does not fit, before anything is changed.
    """
    config, world = parts.config, parts.world
    place = RunDirectory(Path(str(config.continue_from)))
    found: dict[Path, State] = {}  # on rank 0

    def find() -> dict[str, Any]:
        try:
            return parent_of(place, own, state, parts, data, found)
        except UserError as error:
            raise UserError(f"continue_from={config.continue_from} cannot be used: {error}") from error

    record = world.on_main(find)
    path = Checkpoints(place.checkpoints).last
    saved = found.get(path) or read_again(path)
    load(state, saved)
    state.progress = Progress(step=saved["progress"]["step"])
    step, groups = state.progress.step, state.optimizer.param_groups
    rate = groups[0]["initial_lr"] * parts.schedule(step + 1, parts.plan.total_steps)
    text = "Continues %s, which ended at step %d with learning rate %.3g; the next one is %.3g."
    log.info(text, place.path, step, groups[0]["lr"], rate)
    return record


def read_again(path: Path) -> State:
    """Return the contents of the checkpoint that rank 0 has read."""
    found = Checkpoints(path.parent).look(path)
    if found is None:
        raise UserError(f"Rank 0 has read the checkpoint {path}, but another rank cannot: run the same command again.")
    return found[1]


def parent_of(
    place: RunDirectory,
    own: RunDirectory,
    state: TrainState,
    parts: Parts,
    data: Mapping[str, Any],
    found: dict[Path, State],
) -> dict[str, Any]:
    """Return what the manifest records of a parent, and put its checkpoint into `found`. Raises a UserError."""
    if place.path.resolve() == own.path.resolve():
        raise UserError("a run cannot continue itself. Choose another run_dir=.")
    if not place.manifest.is_file() or not place.config.is_file():
        raise UserError(f"{place.path} is not the directory of a run.")
    result = read_json(place.result, {"status": str, "step": int}) if place.result.exists() else {}
    if result.get("status") != "finished":
        what = f"it is {result['status']}" if result else "it has no result.json"
        raise UserError(f"only a finished run can be continued, and {what}. Finish it first, with its own command.")
    config, manifest = read_config(place.config), read_manifest(place.manifest)
    require_fitting_config(config, parts, result["step"])
    place.require_data(data)
    checkpoints = Checkpoints(place.checkpoints)
    newest = checkpoints.look(checkpoints.last)
    if newest is None:
        raise UserError(f"{checkpoints.last} is {checkpoints.damaged.get(checkpoints.last, 'missing')}.")
    path, saved = newest
    require_own(path, saved, place, config, manifest)
    require_restorable(saved, path, state, parts, place)
    if saved["progress"]["step"] != result["step"]:
        raise UserError(f"{path} is of step {saved['progress']['step']}, but the run ended at step {result['step']}.")
    found[path] = saved
    record = {
        "path": str(place.path),  # as typed, since published records must not tell where a user's folders are
        "id": manifest.get("id", ""),
        "step": result["step"],
        "config": digest(place.config),
        "checkpoint": digest(path),
    }
    before = read_manifest(own.manifest).get("parent") if own.manifest.exists() else None
    if before and before.get("checkpoint") != record["checkpoint"]:
        raise UserError(f"{own.path} began with another checkpoint of it. Restore that, or choose another run_dir=.")
    return record


def require_fitting_config(parent: Config, parts: Parts, step: int) -> None:
    """Raise a UserError if a run cannot continue one with the configuration `parent`, which ended at `step`."""
    theirs, ours = (
        {key: value for key, value in result_values(c).items() if key not in FREE and not key.startswith("schedule.")}
        for c in (parent, parts.config)
    )
    if changes := differences(theirs, ours):
        raise UserError(
            f"the two runs differ ({changes}). Only the schedule, the experiment, and {', '.join(FREE[2:])} may differ."
        )
    total = parts.plan.total_steps
    if total <= step:
        raise UserError(
            f"it ended at step {step}, and the new run has {total} steps in total. Raise trainer.epochs or "
            "trainer.steps, which include those of the parent."
        )
    course = make_plan(parent, parts.plan.course.images).course
    if any(course.size(one) != parts.plan.course.size(one) for one in range(1, step + 1)):
        raise UserError(
            "the batch grew in other steps than it would in a run of this length. Give the lengths in batch_schedule "
            "as numbers of images or epochs."
        )


def digest(path: Path) -> str:
    """Return a hash of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            found.update(block)
    return found.hexdigest()[:16]
