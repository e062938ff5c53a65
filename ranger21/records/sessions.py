"""Descriptions of the processes that start or resume a run, for its manifest. Imports no torch."""

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
    """Describe this process for the manifest: command (with keys masked), code, versions and hardware.

    Args:
        world_size: number of ranks.
        device: name of the device.
        resumed_from: step from which the process resumes; 0 at the start.
        settings: settings that do not identify a run but can change its result by rounding.
        full_diff: include the diff of uncommitted changes, not only a hash of each changed file.
        more: further values that can change the result by rounding, such as the precision and the number of threads.
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
    """Return the version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
