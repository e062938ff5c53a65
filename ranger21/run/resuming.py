"""Decide from which checkpoint a run resumes. A run that has saved one never restarts at step 0 unless asked to."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ranger21.config import Config, result_values
from ranger21.config.compose import parse
from ranger21.records.checkpoint import Checkpoints
from ranger21.records.checkpoint_file import State, require_known_format
from ranger21.records.directory import RunDirectory, differences, last_values
from ranger21.records.manifest import Manifest, read_manifest
from ranger21.records.naming import ONCE_NEUTRAL
from ranger21.system.errors import UserError
from ranger21.system.files import unused
from ranger21.system.wording import first_few, reason, shown

log = logging.getLogger("ranger21")
PARTS = (
    "model", "optimizer", "scaler", "precision", "progress", "meter", "nonfinite", "metrics_size", "wandb_id", "config",
    "data",
)  # fmt: skip


class Origin:
    """Where a run begins: the newest intact checkpoint or step 0; if all checkpoints are lost, `resume` decides.

    Attributes:
        path: the path of the checkpoint; None for step 0.
        state: the contents of the checkpoint, in the process that called `find`.
    """

    def __init__(self, place: RunDirectory, config: Config) -> None:
        self.place, self.config = place, config
        self.checkpoints = Checkpoints(place.checkpoints)
        self.path: Path | None = None
        self.state: State = {}
        self._lost = False  # the run exists, but neither last.pt nor previous.pt is intact

    def find(self) -> Path | None:
        """Return the path of the checkpoint to resume from, or None for step 0. Changes nothing.

        Raises a UserError if a checkpoint cannot be read now or belongs to another run, or if all checkpoints of a run
        are lost and `resume` does not say what to do.
        """
        manifest = read_manifest(self.place.manifest) if self.place.manifest.exists() else {}
        found = self.checkpoints.newest()
        if found is None and (traces := self._traces(manifest)):
            self._lost = True
            found = self._last_resort(traces, manifest)
        elif found is not None:
            require_own(*found, self.place, self.config, manifest)
            self._tell(found[0])
        if found is not None:
            if self.config.resume == "never":  # not refused earlier, because there is no manifest
                raise UserError(f"{self.place.path} already has a run, and resume=never: choose another run_dir=.")
            self.path, self.state = found
        return self.path

    def take(self, path: Path) -> State:
        """Return the contents of the checkpoint that rank 0 found. Call this once, on every rank."""
        state, self.state = self.state, {}
        found = (path, state) if state else self.checkpoints.look(path)
        if found is None:
            raise UserError(
                f"Rank 0 has read the checkpoint {path}, but another rank cannot: run the same command again."
            )
        return found[1]

    def _traces(self, manifest: Manifest) -> list[str]:
        """List the evidence that a run has saved here; empty if it was killed before its first checkpoint."""
        damaged = self.checkpoints.damaged
        traces = [f"{path.name} is damaged: {why}" for path, why in damaged.items()]
        if others := [name for name in self.checkpoints.traces() if name not in {path.name for path in damaged}]:
            traces.append(f"there is {first_few(others)}")
        sessions = (session for session in manifest.get("sessions", []) if isinstance(session, dict))
        resumed = next((session["resumed_from_step"] for session in sessions if session.get("resumed_from_step")), None)
        if step := manifest.get("first_checkpoint") or resumed:
            traces.append(f"manifest.json mentions a checkpoint at step {step}")
        metrics = self.place.metrics
        if (
            "first_checkpoint" not in manifest and metrics.exists() and metrics.stat().st_size
        ):  # written by an older version
            step = last_values(metrics).get("step")
            traces.append(f"metrics.jsonl goes to step {step:g}" if step else "metrics.jsonl is not empty")
        return traces

    def _last_resort(self, traces: list[str], manifest: Manifest) -> tuple[Path, State] | None:
        """Follow `resume=best` or `resume=scratch`. Raises a UserError that offers both if neither was given."""
        wanted, what = self.config.resume, "; ".join(traces)
        if wanted == "scratch":
            log.warning("%s: the run restarts at step 0, as resume=scratch says (%s).", self.place.path, what)
            return None
        best = self.checkpoints.look(self.checkpoints.best)
        try:
            if best is not None:
                require_own(*best, self.place, self.config, manifest)
        except UserError as error:
            if wanted == "best":
                raise
            best, what = None, f"{what}; {str(error).rstrip('.')}"
        if why := self.checkpoints.damaged.get(self.checkpoints.best):
            what = f"{what}; best.pt is damaged: {why}"
        if wanted == "best" and best is not None:
            log.warning("%s: the run resumes from best.pt, as resume=best says (%s).", self.place.path, what)
            return best
        words = f"resume=best (step {_step(best[1])}, from best.pt) or " if best is not None else ""
        raise UserError(
            f"{self.place.path} has had a run, but no intact checkpoint is left to resume from ({what}). Restore one "
            f"and run the same command again, or choose another beginning: {words}resume=scratch (step 0). What is "
            "there is then kept under other names."
        )

    def _tell(self, used: Path) -> None:
        for path, why in self.checkpoints.damaged.items():
            aside = unused(path.with_suffix(".damaged")).name
            log.warning("The checkpoint %s is damaged: %s. %s is used, and it becomes %s.", path, why, used.name, aside)
        if used != self.checkpoints.last and not self.checkpoints.damaged:
            log.warning("The checkpoint %s is missing: %s is used.", self.checkpoints.last, used.name)

    def keep_what_is_there(self, metrics_size: int) -> list[str]:
        """Rename files that would be overwritten. Only one process calls this, after the checkpoint is restored.

        `metrics_size` is the size of metrics.jsonl, in bytes, at the checkpoint. Returns the new names of the files of
        a lost run.
        """
        if not self._lost:
            self.checkpoints.put_aside()
            return []
        metrics, directory, kept = self.place.metrics, self.place.checkpoints, list[Path]()
        if metrics.is_file() and metrics.stat().st_size > metrics_size:
            kept.append(unused(metrics.with_name("metrics.lost.jsonl")))
        if self.path is not None:
            if kept:
                shutil.copyfile(metrics, kept[0])
            self.checkpoints.put_aside()
            self.checkpoints.use_as_last(self.path)
        else:
            if kept:
                metrics.rename(kept[0])
            if directory.is_symlink() or (directory.is_dir() and any(directory.iterdir())):
                kept.append(unused(directory.with_name("checkpoints.lost")))
                directory.rename(kept[-1])
        names = [path.name for path in kept]
        log.warning("The run's earlier files are kept as %s.", ", ".join(names)) if names else None
        return names


def require_own(path: Path, state: Any, place: RunDirectory, config: Config, manifest: Mapping[str, Any]) -> None:
    """Raise a UserError unless a checkpoint belongs to the run in `place` with the configuration `config`."""
    cure = "put the run's own back, or choose another run_dir="
    if not isinstance(state, dict):
        raise UserError(f"{path} is not a checkpoint of a run (torch.save wrote a {type(state).__name__}): {cure}.")
    require_known_format(state, path)
    if missing := [name for name in PARTS if name not in state]:
        raise UserError(f"{path} is not a checkpoint of a run, because it lacks {first_few(missing)}: {cure}.")
    try:
        there = result_values(parse(DictConfig(state["config"])))
    except Exception as error:  # a damaged mapping may raise anything
        text = f"{path} has a configuration that this version cannot read ({reason(error)}): {cure}."
        raise UserError(text) from error
    now = result_values(config)
    if "format" not in state:  # saved by a version whose results did not depend on these
        there |= {key: now[key] for key in ONCE_NEUTRAL}
    if changes := differences(there, now):
        raise UserError(f"{path} is a checkpoint of another run ({changes}): {cure}.")
    own, its = manifest.get("id"), shown(state["wandb_id"], str)
    if own and its != own:
        raise UserError(f"{path} is a checkpoint of another run ({its}, where {place.path} is {own}): {cure}.")


def _step(state: State) -> str:
    progress = state["progress"]
    return shown(progress.get("step") if isinstance(progress, dict) else None)
