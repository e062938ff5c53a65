"""Describes the process that takes a run up: its command, code, versions and hardware. Imports no torch."""

import datetime
import importlib.metadata
import os
import platform
import socket
import sys
from collections.abc import Mapping
from typing import Any

from ranger21.records.code import git_state
from ranger21.system.masking import masked_command

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "hydra-core", "omegaconf", "wandb")


def session(
    world_size: int,
    device: str,
    resumed_from: int,
    settings: Mapping[str, Any] | None = None,
    *,
    full_diff: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Describe a process that takes a run up, for its manifest: command, code, versions, hardware.

    `settings` and `more` are what else can change a result by rounding: settings that are no part of what a run is, the
    number format, and the threads of a process. What looks like a key is masked. `full_diff`: with the uncommitted
    changes of the code, and not only a hash of each changed file.
    """
    return {
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": masked_command([sys.executable, *sys.argv]),
        "resumed_from_step": resumed_from,
        "git": git_state(full_diff),
        "settings": dict(settings or {}),
        "packages": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "hardware": {
            "host": socket.gethostname(),
            "device": device,
            "ranks": world_size,
            **more,
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
        },
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
