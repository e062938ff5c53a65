"""The process that runs checks on request and returns their results.

It is a separate process because a check can hang or crash in a driver, which raises no exception.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ranger21.config.compose import compose_config
from ranger21.machine.check import FAILED, CheckResult, Machine
from ranger21.machine.listing import CHECKS
from ranger21.system.errors import UserError
from ranger21.system.processes import die_with_the_parent
from ranger21.system.ranks import SLURM, TORCHRUN
from ranger21.system.wording import reason

OF_RANKS = (
    *TORCHRUN.values(), *SLURM.values(), "MASTER_ADDR", "MASTER_PORT", "SLURM_NTASKS", "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_TASKS_PER_NODE", "SLURM_STEP_NODELIST", "SLURM_STEP_ID", "SLURM_NODEID", "TORCHELASTIC_USE_AGENT_STORE",
)  # fmt: skip
FAULT = "this is an error in a library, the driver or this program; its traceback is in machine.json"
MOST = 8000  # characters of a traceback


def pop_rank_variables() -> dict[str, str]:
    """Remove the rank variables from the environment and return them, so that commands started here have one rank."""
    return {name: os.environ.pop(name) for name in OF_RANKS if name in os.environ}


def look(name: str, machine: Machine) -> tuple[CheckResult, bool]:
    """Run a check; return its result, and whether this process can run further ones (not after a device error)."""
    check = next(check for check in CHECKS if check.name == name)
    try:
        module = importlib.import_module(f"ranger21.machine.{check.module}")
        return getattr(module, check.function)(machine), True
    except UserError as error:
        return CheckResult(str(error), FAILED), True
    except Exception as error:
        told = {"traceback": "".join(traceback.format_exception(error))[-MOST:]}
        return CheckResult(f"{type(error).__name__}: {reason(error)}", FAILED, FAULT, told), False


def _free() -> bool:
    """Release cached device memory for other processes. Returns whether this process still uses the device."""
    gc.collect()
    torch: Any = sys.modules.get("torch")  # if a check has imported it
    if torch is None or not torch.cuda.is_initialized():
        return False
    torch.cuda.empty_cache()
    return True


def main() -> None:
    """Run checks: read the fields of a Machine as JSON, then names of checks, and send each result as JSON."""
    die_with_the_parent()
    there = Connection(int(sys.argv[1]))
    told: dict[str, Any] = json.loads(there.recv_bytes())
    overrides = tuple(told["overrides"])
    config = compose_config(list(overrides))
    machine = Machine(config, overrides, told["quick"], Path(told["work"]), told["numbers"], pop_rank_variables())
    while True:
        try:
            name = there.recv_bytes().decode()
        except EOFError:
            return
        found, whole = look(name, machine)
        machine.numbers[name] = found.numbers
        sys.stdout.flush()
        there.send_bytes(json.dumps({"found": vars(found), "whole": whole, "holds": _free()}).encode())


if __name__ == "__main__":
    main()
