"""A recorded run: its configuration, metrics, result and manifest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from ranger21.config import LATER, SEEDS
from ranger21.records.manifest import FORMAT
from ranger21.report.runs.metrics import Array, Metrics
from ranger21.system.files import newer
from ranger21.system.reading import Unreadable, read_yaml
from ranger21.system.wording import counted, one_line
from ranger21.tracking import number
from ranger21.tracking.splits import VALIDATED, split_of, watched

Seed = int | str  # text, such as "0/3", where the seeds of a run differ

FINISHED, DIVERGED, RUNNING = "finished", "diverged", "running"
NAMES = ("model.name", "data.name", "optimizer.name", "schedule.name")
NO_CONFIG = "it has no config.yaml, so its settings are unknown"


@dataclass(frozen=True)
class RecordedRun:
    """One run as its records describe it.

    Attributes:
        path: the run directory.
        config: the settings, by dotted keys.
        status: FINISHED, DIVERGED, or RUNNING if no end is recorded (it is still running, or was killed).
        notes: problems met while reading the run.
    """

    path: Path
    config: dict[str, Any]
    status: str
    result: dict[str, Any]
    metrics: Metrics
    manifest: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def seed(self) -> Seed | None:
        """The seed by which runs of two groups are paired: INIT/DATA if the two seeds differ, None if there is none."""
        both = [self.config[key] if self.config.get(key) is not None else self.config.get("seed") for key in SEEDS[1:]]
        return None if None in both else both[0] if both[0] == both[1] else f"{both[0]}/{both[1]}"

    @property
    def watched(self) -> str:
        """The split that was validated on during training: "holdout", or "val", the official validation set."""
        return watched(self.config.get("data.holdout"))

    @property
    def data(self) -> dict[str, Any]:
        """The manifest's entry about the data; empty if there is none."""
        data = self.manifest.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def images(self) -> str | None:
        """The fingerprint of the images; None if the manifest has none."""
        fingerprint = self.data.get("fingerprint")
        return fingerprint if isinstance(fingerprint, str) else None

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The manifest's entry for each process that worked on the run."""
        sessions = self.manifest.get("sessions")
        return [s for s in sessions if isinstance(s, dict)] if isinstance(sessions, list) else []

    @property
    def resumed(self) -> int:
        """How many times the run was resumed."""
        return max(0, len(self.sessions) - 1)

    def series(self, key: str, x: str = "epoch") -> tuple[Array, Array]:
        """Return x and y: finite values of `key` against `step`, `epoch`, `images_seen` or `time` (seconds)."""
        return self.metrics.series(key, x)

    def final(self, key: str) -> float | None:
        """Return the value of `key` at the last validation; None if it was not finite."""
        steps = [self.series(name, "step") for name in self.metrics.columns if split_of(name)]
        last = max((float(found[0][-1]) for found in steps if len(found[0])), default=None)
        where, values = self.series(key, "step")
        return float(values[-1]) if len(where) and where[-1] == last else None

    def last(self, key: str) -> float | None:
        """Return the last finite value of `key`; None if there is none."""
        values = self.metrics.series(key, "step")[1]
        return float(values[-1]) if len(values) else None


def assembled(
    path: Path,
    config: dict[str, Any],
    result: dict[str, Any],
    manifest: dict[str, Any],
    metrics: Metrics,
    notes: Sequence[str] = (),
) -> RecordedRun | str:
    """Build a run from its parts, or return a sentence that says why it is left out.

    Args:
        notes: problems met while reading the parts.
    """
    said = list(notes)
    for name, part in (("result.json", result), ("manifest.json", manifest)):
        if why := newer(part, FORMAT):
            return f"{path} is left out: in {name}, {why}."
    if metrics.broken:
        said.append(f"{counted(metrics.broken, 'unreadable line')} of metrics.jsonl skipped")
    if metrics.repeated:
        said.append(f"{counted(metrics.repeated, 'line')} replaced by what the run logged after a restart")
    status = result.get("status")
    if status == FINISHED and (lost := _lost(metrics, result)):
        said.append(lost)
        status = RUNNING
    if status == FINISHED and (ruined := not_finite(metrics)):
        said.append(ruined)
        status = DIVERGED
    ended = status if status in (FINISHED, DIVERGED) else RUNNING
    return RecordedRun(path, config, ended, result, metrics, manifest, tuple(said))


def _lost(metrics: Metrics, result: dict[str, Any]) -> str | None:
    """Return a clause if metrics.jsonl lacks the last validation of a finished run, else None."""
    final = result.get("final")
    step = final.get("step") if isinstance(final, dict) else None
    if not finite(step) or (len(metrics.steps) and metrics.steps[-1] >= step):
        return None
    reached = f"{metrics.steps[-1]:.0f}" if len(metrics.steps) else "no step"
    return f"it finished at step {step}, but metrics.jsonl ends at {reached}: counted as unfinished"


def not_finite(metrics: Metrics) -> str | None:
    """Return a clause if the last validation of a finished run is not finite, which is a failure; else None."""
    step, keys = metrics.undefined_at_last(tuple(f"{split}/" for split in VALIDATED))
    if not keys:
        return None
    are = "is" if len(keys) == 1 else "are"
    return f"{', '.join(keys)} {are} not finite at its last validation (step {step:.0f}): counted as diverged"


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested dictionary into one with dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def finite(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number that fits into a float."""
    return math.isfinite(number(value))


def read_settings(path: Path) -> dict[str, Any] | str:
    """Read a config.yaml into dotted keys, or return a clause that says why that is impossible."""
    try:
        tree = read_yaml(path)
    except Unreadable as error:
        if error.missing:
            return NO_CONFIG
        return f"its config.yaml cannot be read ({error.why})"
    if not tree:
        return "its config.yaml holds no configuration"
    return settings({str(key): value for key, value in tree.items()})


def settings(tree: dict[str, Any]) -> dict[str, Any] | str:
    """Flatten a configuration and add the defaults of settings that are newer than it; or return what is wrong."""
    later = {key: value for part, values in LATER.items() if part in tree for key, value in values.items()}
    flat = later | flatten(tree)
    for key in SEEDS:
        seed = flat.get(key)
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            return f"its {key}, {one_line(str(seed))}, is not a whole number"
    for key in NAMES:
        if not isinstance(flat.get(key), str | None):
            return f"its {key} is not text"
    return flat
