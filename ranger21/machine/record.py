"""machine.json: the results of the checks, with the machine and the training. Imports no torch."""

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
from ranger21.machine.check import FAILED, CheckRow
from ranger21.records.code import git_state
from ranger21.system.errors import UserError
from ranger21.system.files import newer, require_writable, write_atomically
from ranger21.system.masking import masked_command
from ranger21.system.reading import Unreadable, misfit, read_json
from ranger21.system.wording import one_line, shown

KIND, FORMAT = "ranger21 machine", 1
NAME = "machine.json"
CURE = "create it again with scripts/check_machine.py"
SHAPE = {
    "started": str,
    "host": str,
    "training": {},
    "checks": [{"check": str, "state": str, "seen": str, "remedy": str, "seconds": float, "numbers": {}}],
}
# Settings on which the speed of a training depends. (The device and the ranks belong to the machine.)
OF_DATA = ("batch_size", "crop", "resize", "transforms", "pack")
WITHOUT_SPEED = ("lr", "weight_decay")  # settings of an optimizer that do not affect its speed
OF_TRAINER = ("precision", "accumulate", "compile", "channels_last", "tf32", "cudnn_benchmark", "deterministic")


def training(config: Config) -> dict[str, Any]:
    """Return the settings on which the speed of a training depends, by dotted key, as JSON has them."""
    values: dict[str, Any] = {
        **result_values(config.model, "model."),
        **{f"optimizer.{key}": value for key, value in vars(config.optimizer).items() if key not in WITHOUT_SPEED},
        **{f"data.{key}": getattr(config.data, key) for key in OF_DATA if hasattr(config.data, key)},
        **{f"trainer.{key}": getattr(config.trainer, key) for key in OF_TRAINER if hasattr(config.trainer, key)},
        "data.name": "folders" if isinstance(config.data, ImageFolderConfig) else config.data.name,
        "batch_schedule": config.batch_schedule.name,
    }
    values["data.pack"] = bool(values.get("data.pack"))
    settings: dict[str, Any] = _finite({key: value for key, value in values.items() if not isinstance(value, Path)})
    return settings


def require_place(path: Path) -> None:
    """Raise a UserError if `path` exists and is not a machine.json, or cannot be written."""
    if os.path.lexists(path):
        try:
            ours = read_json(path).get("kind") == KIND
        except UserError:
            ours = False
        if not ours:
            raise UserError(f"{path} exists and is not a {NAME}, so it is not overwritten: choose another --out.")
    try:
        require_writable(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --out.") from error


def write(path: Path, config: Config, rows: Sequence[CheckRow], quick: bool, whole: bool) -> None:
    """Write the results to machine.json.

    Args:
        path: the path of the file.
        config: the configuration of the training.
        rows: the results.
        quick: whether --quick was given.
        whole: whether every check was done.
    """
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
    """Return standard JSON, with null for numbers that are not finite."""
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
    """The speed of one training on one machine, as measured by check_machine.py or by reproduce.py --measure."""

    source: str  # the path of the machine.json, or where else the numbers come from
    training: dict[str, Any]
    images_per_s: float
    checkpoint_bytes: int | None
    whose: str  # device, host and date, for messages

    def is_of(self, config: Config) -> bool:
        """Return whether a training agrees with the measured one in all settings on which the speed depends."""
        return self.training == training(config)

    def differences(self, config: Config) -> list[str]:
        """Return the settings in which a training differs, as `key=its value (not the measured value)`."""
        other = training(config)
        keys = sorted(self.training.keys() | other.keys())
        pairs = ((key, other.get(key), self.training.get(key)) for key in keys)
        return [f"{key}={shown(its, str)} (not {shown(own, str)})" for key, its, own in pairs if its != own]

    def told(self) -> str:
        """Return a description of the measurement for messages."""
        model, optimizer = (shown(self.training.get(key), str) for key in ("model.name", "optimizer.name"))
        return f"{self.images_per_s:,.4g} for {model} with {optimizer} on {one_line(self.whose)}"


def read(path: Path) -> Measured:
    """Read a machine.json. Raises a UserError if it is another kind of file, of a later version, or has no speed."""
    facts = read_json(path, {}, CURE)
    if facts.get("kind") != KIND:
        raise UserError(f"{path} is not a {NAME} of scripts/check_machine.py: give such a file, or omit --machine.")
    if why := newer(facts, FORMAT):
        raise UserError(f"{path} cannot be used: {why}.")
    if why := misfit(facts, SHAPE):
        raise Unreadable(path, why, CURE)
    numbers = {check["check"]: check["numbers"] for check in facts["checks"]}
    seen = numbers.get("training", {})
    speed, size = seen.get("images_per_s"), seen.get("checkpoint_bytes")
    if not isinstance(speed, int | float) or not speed > 0:
        raise UserError(f"{path} has no training speed because its training check failed. {CURE.capitalize()}.")
    device = str(numbers.get("device", {}).get("device", "an unknown device"))
    failed = ", on which a check failed" if any(check["state"] == FAILED for check in facts["checks"]) else ""
    whose = f"{device} of {facts['host']}, {facts['started'][:10]}{failed}"
    return Measured(str(path), facts["training"], float(speed), size if isinstance(size, int) else None, whose)
