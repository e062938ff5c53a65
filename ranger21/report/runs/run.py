"""Find runs and read what they left: their config, metrics, result and manifest, or W&B's file of them."""

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
from ranger21.system.wording import one_line
from ranger21.tracking import number
from ranger21.tracking.splits import VALIDATED, split_of, watched

Seed = int | str  # as text where it is of several: what alike in all of them is paired

FINISHED, DIVERGED, RUNNING = "finished", "diverged", "running"
NAMES = ("model.name", "data.name", "optimizer.name", "schedule.name")
NO_CONFIG = "it has no config.yaml, so what it ran is unknown"


@dataclass(frozen=True)
class Run:
    """One run: its directory, its config with dotted keys, and what it logged."""

    path: Path
    config: dict[str, Any]
    status: str  # FINISHED, DIVERGED, or RUNNING: no end is recorded (it still runs, or was killed)
    result: dict[str, Any]
    metrics: Metrics
    manifest: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what could not be read of it

    @property
    def seed(self) -> Seed | None:
        """What pairs it with a run of another group: its seed, or INIT/DATA where those differ; None without one."""
        both = [self.config[key] if self.config.get(key) is not None else self.config.get("seed") for key in SEEDS[1:]]
        return None if None in both else both[0] if both[0] == both[1] else f"{both[0]}/{both[1]}"

    @property
    def watched(self) -> str:
        """The split that its validations read before its end: "holdout", or "val", the official validation set."""
        return watched(self.config.get("data.holdout"))

    @property
    def data(self) -> dict[str, Any]:
        """What the manifest says of the data, which may be nothing."""
        data = self.manifest.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def images(self) -> str | None:
        """The fingerprint of the images, None where no manifest tells it."""
        fingerprint = self.data.get("fingerprint")
        return fingerprint if isinstance(fingerprint, str) else None

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """What the manifest says of each process that took the run up."""
        sessions = self.manifest.get("sessions")
        return [s for s in sessions if isinstance(s, dict)] if isinstance(sessions, list) else []

    @property
    def resumed(self) -> int:
        """How many times it was taken up again."""
        return max(0, len(self.sessions) - 1)

    def series(self, key: str, x: str = "epoch") -> tuple[Array, Array]:
        """The finite values logged under `key` against `step`, `epoch`, `images_seen` or `time` (seconds)."""
        return self.metrics.series(key, x)

    def final(self, key: str) -> float | None:
        """The value of `key` at the last validation, None where it was not finite there."""
        steps = [self.series(name, "step") for name in self.metrics.columns if split_of(name)]
        last = max((float(found[0][-1]) for found in steps if len(found[0])), default=None)
        where, values = self.series(key, "step")
        return float(values[-1]) if len(where) and where[-1] == last else None

    def last(self, key: str) -> float | None:
        """The last finite value logged under `key`, None without one."""
        values = self.metrics.series(key, "step")[1]
        return float(values[-1]) if len(values) else None


def assembled(
    path: Path,
    config: dict[str, Any],
    result: dict[str, Any],
    manifest: dict[str, Any],
    metrics: Metrics,
    notes: Sequence[str] = (),
) -> Run | str:
    """Put a run together, or say why it is left out. `notes` are of what could not be read of it."""
    said = list(notes)
    for name, part in (("result.json", result), ("manifest.json", manifest)):
        if why := newer(part, FORMAT):
            return f"{path} is left out: of {name}, {why}."
    if metrics.broken:
        said.append(f"{metrics.broken} unreadable line(s) of metrics.jsonl skipped")
    if metrics.repeated:
        said.append(f"{metrics.repeated} line(s) that were logged again after a restart dropped")
    status = result.get("status")
    if status == FINISHED and (lost := _lost(metrics, result)):
        said.append(lost)
        status = RUNNING
    if status == FINISHED and (ruined := not_finite(metrics)):
        said.append(ruined)
        status = DIVERGED
    ended = status if status in (FINISHED, DIVERGED) else RUNNING
    return Run(path, config, ended, result, metrics, manifest, tuple(said))


def _lost(metrics: Metrics, result: dict[str, Any]) -> str | None:
    """The sentence on a finished run whose last validation is not in metrics.jsonl; None for a whole one."""
    final = result.get("final")
    step = final.get("step") if isinstance(final, dict) else None
    if not finite(step) or (len(metrics.steps) and metrics.steps[-1] >= step):
        return None
    reached = f"{metrics.steps[-1]:.0f}" if len(metrics.steps) else "no step"
    return f"it finished at step {step}, but metrics.jsonl ends at {reached}: counted as unfinished"


def not_finite(metrics: Metrics) -> str | None:
    """The clause on a finished run whose last validation is not finite: it failed. None for a sound one."""
    step, keys = metrics.undefined_at_last(tuple(f"{split}/" for split in VALIDATED))
    return (
        f"{', '.join(keys)} of its last validation (step {step:.0f}) not finite: counted as diverged" if keys else None
    )


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dictionary as one with dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def finite(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number, and not too large to calculate with."""
    return math.isfinite(number(value))


def read_settings(path: Path) -> dict[str, Any] | str:
    """A config with dotted keys, or why there is none."""
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
    """A config tree with dotted keys and with what is newer than it, or what is wrong with it."""
    later = {key: value for part, values in LATER.items() if part in tree for key, value in values.items()}
    flat = later | flatten(tree)
    for key in SEEDS:
        seed = flat.get(key)
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            return f"its {key}, {one_line(str(seed))}, is no whole number"
    for key in NAMES:
        if not isinstance(flat.get(key), str | None):
            return f"its {key} is no text"
    return flat
