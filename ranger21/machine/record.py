"""machine.json: what was seen, of which machine and training. Imports no torch."""

from __future__ import annotations

import datetime
import json
import os
import platform
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.config import Config, ImageFolderConfig, result_values
from ranger21.machine.check import FAILED, Row
from ranger21.records.code import git_state
from ranger21.system.errors import UserError
from ranger21.system.files import newer, require_writable, write_atomically
from ranger21.system.masking import masked_command
from ranger21.system.reading import Unreadable, misfit, read_json
from ranger21.system.wording import one_line, shown

KIND, FORMAT = "ranger21 machine", 1
NAME = "machine.json"
CURE = "make it anew with scripts/check_machine.py"
SHAPE = {
    "started": str,
    "host": str,
    "training": {},
    "checks": [{"check": str, "state": str, "seen": str, "remedy": str, "seconds": float, "numbers": {}}],
}
# Of a training, what its speed depends on. (How it is computed on ranks, and the device, are the machine's.)
OF_DATA = ("batch_size", "crop", "resize", "transforms", "pack")
WITHOUT_SPEED = ("lr", "weight_decay")  # of an optimizer
OF_TRAINER = ("precision", "accumulate", "compile", "channels_last", "tf32", "cudnn_benchmark", "deterministic")


def training(config: Config) -> dict[str, Any]:
    """Return what the speed of a training depends on, by dotted key."""
    values: dict[str, Any] = {
        **result_values(config.model, "model."),
        **{f"optimizer.{key}": value for key, value in vars(config.optimizer).items() if key not in WITHOUT_SPEED},
        **{f"data.{key}": getattr(config.data, key) for key in OF_DATA if hasattr(config.data, key)},
        **{f"trainer.{key}": getattr(config.trainer, key) for key in OF_TRAINER if hasattr(config.trainer, key)},
        "data.name": "folders" if isinstance(config.data, ImageFolderConfig) else config.data.name,
        "batch_schedule": config.batch_schedule.name,
    }
    values["data.pack"] = bool(values.get("data.pack"))
    return {key: value for key, value in values.items() if not isinstance(value, Path)}


def require_place(path: Path) -> None:
    """Raise a UserError if `path` is a file that is no machine.json, or cannot be written."""
    if os.path.lexists(path):
        try:
            ours = read_json(path).get("kind") == KIND
        except UserError:
            ours = False
        if not ours:
            raise UserError(f"{path} is there and is not a {NAME}: it is left alone; choose another --out.")
    try:
        require_writable(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --out.") from error


def write(path: Path, config: Config, rows: Sequence[Row], quick: bool, whole: bool) -> None:
    """Write what was seen; `whole`: whether every check was done."""
    facts = {
        "kind": KIND,
        "format": FORMAT,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": masked_command(["python", *sys.argv]),
        "git": git_state(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "quick": quick,
        "whole": whole,
        "ok": whole and all(row.found.state != FAILED for row in rows),
        "training": training(config),
        "checks": [
            {"check": row.check, **vars(row.found), "seconds": round(row.seconds, 3)} for row in rows
        ],
    }  # fmt: skip
    write_atomically(path, text(facts))


def text(facts: dict[str, Any]) -> str:
    """Return JSON that every reader takes: a number that is not finite is null."""
    return json.dumps(_finite(facts), indent=1) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value if isinstance(value, str | int | bool | None) else str(value)


@dataclass(frozen=True)
class Measured:
    """The speed of one training on one machine, as a machine.json has it."""

    path: Path
    training: dict[str, Any]
    images_per_s: float
    checkpoint_bytes: int | None
    whose: str  # device, host and date, for people

    def is_of(self, config: Config) -> bool:
        """Whether a training is, in all that its speed depends on, the one that was measured."""
        return self.training == _finite(training(config))

    def differences(self, config: Config) -> list[str]:
        """What a training has otherwise: `key=its value, where this has another`."""
        other = _finite(training(config))
        keys = sorted(self.training.keys() | other.keys())
        pairs = ((key, other.get(key), self.training.get(key)) for key in keys)
        return [f"{key}={shown(its, str)} (not {shown(own, str)})" for key, its, own in pairs if its != own]

    def told(self) -> str:
        """Return of what it is, for people."""
        model, optimizer = (shown(self.training.get(key), str) for key in ("model.name", "optimizer.name"))
        return f"{self.images_per_s:,.4g} for {model} with {optimizer} on {one_line(self.whose)}"


def read(path: Path) -> Measured:
    """Read a machine.json. Raises a UserError if it is another file, of a later version, or has no speed."""
    facts = read_json(path, {}, CURE)
    if facts.get("kind") != KIND:
        raise UserError(f"{path} is not a {NAME}, which scripts/check_machine.py writes: give one, or no --machine.")
    if why := newer(facts, FORMAT):
        raise UserError(f"{path} cannot be used: {why}.")
    if why := misfit(facts, SHAPE):
        raise Unreadable(path, why, CURE)
    numbers = {check["check"]: check["numbers"] for check in facts["checks"]}
    seen = numbers.get("training", {})
    speed, size = seen.get("images_per_s"), seen.get("checkpoint_bytes")
    if not isinstance(speed, int | float) or not speed > 0:
        raise UserError(f"{path} has no speed of a training: the check of it failed. {CURE.capitalize()}.")
    device = str(numbers.get("device", {}).get("device", "an unknown device"))
    failed = ", where a check failed" if any(check["state"] == FAILED for check in facts["checks"]) else ""
    whose = f"{device} of {facts['host']}, {facts['started'][:10]}{failed}"
    return Measured(path, facts["training"], float(speed), size if isinstance(size, int) else None, whose)
