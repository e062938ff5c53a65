"""Checks of Python, the packages, the driver and CUDA."""

from __future__ import annotations

import platform
import shutil
import subprocess

from ranger21.machine.check import FAILED, CheckResult, Machine
from ranger21.records.sessions import PACKAGES, version
from ranger21.system.errors import UserError
from ranger21.system.wording import reason

LEAST_TORCH = (2, 10)


def packages(machine: Machine) -> CheckResult:
    """Report the versions of Python and of the packages in a run's manifest."""
    import torch

    found = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    has = str(torch.__version__)
    found["torch"] = has
    seen = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    numbers = {"packages": found}
    if missing := [name for name, number in found.items() if number is None]:
        return CheckResult(f"{', '.join(missing)}: not installed", FAILED, "pip install -e .", numbers)
    if tuple(int(part) for part in has.split(".")[:2]) < LEAST_TORCH:
        return CheckResult(seen, FAILED, f"install torch {'.'.join(map(str, LEAST_TORCH))} or later", numbers)
    return CheckResult(seen, numbers=numbers)


def driver(machine: Machine) -> CheckResult:
    """Report the driver's version from nvidia-smi and the CUDA version that torch was built for."""
    import torch

    built, there = torch.version.cuda, torch.cuda.is_available()
    gpus = nvidia_smi()
    numbers = {"cuda": built, "driver": gpus[0].split(", ")[0] if gpus else None}
    if there:
        nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.cuda.nccl.is_available([]) else "none"
        cudnn = torch.backends.cudnn.version()
        told = f"driver {numbers['driver'] or 'unknown'}, CUDA {built}, cuDNN {cudnn}, NCCL {nccl}"
        return CheckResult(told, numbers=numbers | {"cudnn": cudnn, "nccl": nccl})
    if gpus:
        seen = f"nvidia-smi lists {len(gpus)} GPUs, but torch (built for CUDA {built}) sees none"
        remedy = "install a torch build for this driver (pytorch.org), or check CUDA_VISIBLE_DEVICES"
        return CheckResult(seen, FAILED, remedy, numbers)
    if machine.config.trainer.device.startswith("cuda"):
        remedy = "request a node with a GPU, or use trainer.device=cpu"
        return CheckResult("no NVIDIA driver found", FAILED, remedy, numbers)
    return CheckResult("no NVIDIA driver found", numbers=numbers)


def nvidia_smi() -> list[str]:
    """Return `driver version, name` of each GPU by nvidia-smi; an empty list if nvidia-smi does not exist.

    Raises a UserError if nvidia-smi fails.
    """
    if not shutil.which("nvidia-smi"):
        return []
    command = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"nvidia-smi failed ({reason(error)}): have the node's driver checked.") from error
    if done.returncode:
        why = reason(RuntimeError(done.stdout + done.stderr))
        raise UserError(f"nvidia-smi failed ({why}): have the node's driver checked.")
    return done.stdout.strip().splitlines()
