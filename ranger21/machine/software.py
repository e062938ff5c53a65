"""Python, the packages, the driver and CUDA."""

from __future__ import annotations

import platform
import shutil
import subprocess

from ranger21.machine.check import FAILED, Found, Machine
from ranger21.records.sessions import PACKAGES, version
from ranger21.system.errors import UserError
from ranger21.system.wording import reason

LEAST_TORCH = (2, 10)


def packages(machine: Machine) -> Found:
    """Python's version and those of the packages that a run's manifest names."""
    import torch

    found = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    has = str(torch.__version__)
    found["torch"] = has
    seen = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    numbers = {"packages": found}
    if missing := [name for name, number in found.items() if number is None]:
        return Found(f"{', '.join(missing)}: not installed", FAILED, "pip install -e .", numbers)
    if tuple(int(part) for part in has.split(".")[:2]) < LEAST_TORCH:
        return Found(seen, FAILED, f"torch {'.'.join(map(str, LEAST_TORCH))} or later is needed", numbers)
    return Found(seen, numbers=numbers)


def driver(machine: Machine) -> Found:
    """The driver's version as nvidia-smi says it, and the CUDA that torch was built for."""
    import torch

    built, there = torch.version.cuda, torch.cuda.is_available()
    gpus = nvidia_smi()
    numbers = {"cuda": built, "driver": gpus[0].split(", ")[0] if gpus else None}
    if there:
        nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.nccl.is_available([]) else "none"
        cudnn = torch.backends.cudnn.version()
        told = f"driver {numbers['driver'] or 'unknown'}, CUDA {built}, cuDNN {cudnn}, NCCL {nccl}"
        return Found(told, numbers=numbers | {"cudnn": cudnn, "nccl": nccl})
    if gpus:
        seen = f"nvidia-smi lists {len(gpus)} GPUs, and torch sees none (built for CUDA {built})"
        remedy = "install a torch for this driver (pytorch.org), or look at CUDA_VISIBLE_DEVICES"
        return Found(seen, FAILED, remedy, numbers)
    if machine.config.trainer.device.startswith("cuda"):
        remedy = "ask for a node with a GPU, or give trainer.device=cpu"
        return Found("no NVIDIA driver here", FAILED, remedy, numbers)
    return Found("no NVIDIA driver here", numbers=numbers)


def nvidia_smi() -> list[str]:
    """Return nvidia-smi's `driver version, name` of each GPU; none where it is not there.

    Raises a UserError if it is there and fails.
    """
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"nvidia-smi fails ({reason(error)}): have the node's driver looked at.") from error
    if done.returncode:
        why = reason(RuntimeError(done.stdout + done.stderr))
        raise UserError(f"nvidia-smi fails ({why}): have the node's driver looked at.")
    return done.stdout.strip().splitlines()
