"""Checks of SLURM and W&B."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.error
import urllib.request

from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.system.processes import granted_cores
from ranger21.system.wording import one_line, reason
from ranger21.tracking.loggers.weights_and_biases import WandbConfig

WANDB = "https://api.wandb.ai"
SECONDS = 10
REQUEUE = "slurm/train.sbatch cannot requeue itself; it prints the command that resumes the run (docs/cluster.md)"


def slurm(machine: Machine) -> CheckResult:
    """Report SLURM's allocation and its remaining time, and check whether a job can requeue itself."""
    env = os.environ
    job = env.get("SLURM_JOB_ID")
    if not job:
        version = _asked("sinfo", "--version")
        return CheckResult(f"{version} is installed, but this is not one of its jobs" if version else "not installed")
    granted = {
        "nodes": env.get("SLURM_JOB_NUM_NODES"),
        "cpus_on_node": env.get("SLURM_CPUS_ON_NODE"),
        "gpus_on_node": env.get("SLURM_GPUS_ON_NODE"),
        "partition": env.get("SLURM_JOB_PARTITION"),
    }
    left = _asked("squeue", "--noheader", "--job", job, "--format", "%L")
    numbers = {"job": job, **granted, "cores": granted_cores(), "left": left}
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in granted.items() if value)
    seen = f"job {job}: {told or 'nodes unknown'}; {granted_cores()} cores for this process, {left or '?'} left"
    if _asked("scontrol", "show", "job", job) is None:
        return CheckResult(f"{seen}; scontrol does not answer", WARNING, REQUEUE, numbers)
    if granted_cores() < 2 and env.get("SLURM_GPUS_ON_NODE"):
        return CheckResult(seen, WARNING, "one core is too few for a GPU: request more by --cpus-per-gpu=8", numbers)
    return CheckResult(seen, numbers=numbers)


def _asked(*command: str) -> str | None:
    """Return the output of a SLURM command in one line; None if it does not exist or fails."""
    if not shutil.which(command[0]):
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return one_line(" ".join(done.stdout.split()), 200)


def wandb(machine: Machine) -> CheckResult:
    """Check whether W&B's server answers, and whether the run needs it."""
    logger = next((one for one in machine.config.logger.members() if isinstance(one, WandbConfig)), None)
    if logger is None:
        return CheckResult("the run does not use W&B")
    online = (logger.mode or os.environ.get("WANDB_MODE")) == "online"
    address = os.environ.get("WANDB_BASE_URL") or WANDB
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=SECONDS):
            answered, why = True, ""
    except urllib.error.HTTPError:  # also an answer
        answered, why = True, ""
    except (OSError, ValueError) as error:
        answered, why = False, reason(error, 100)
    numbers = {"reachable": answered, "online": online}
    if answered:
        return CheckResult(f"the server answers; the run is {'online' if online else 'offline'}", numbers=numbers)
    seen = f"{one_line(address, 80)} does not answer ({why})"
    if online:
        remedy = "use logger.mode=offline, and run scripts/sync_wandb.py on a login node"
        return CheckResult(seen, FAILED, remedy, numbers)
    needs = "the run is offline and does not need it: send it with scripts/sync_wandb.py from a login node"
    return CheckResult(f"{seen}; {needs}", numbers=numbers)
