"""The process that looks: it does the checks that it is told, one after the other, and answers what it found.

It is a process of its own, because a check can hang or die within a driver, which no exception ends.
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
from ranger21.machine.check import FAILED, Found, Machine
from ranger21.machine.listing import CHECKS
from ranger21.system.errors import UserError
from ranger21.system.processes import die_with_the_parent
from ranger21.system.ranks import SLURM, TORCHRUN
from ranger21.system.wording import reason

OF_RANKS = (
    *TORCHRUN.values(), *SLURM.values(), "MASTER_ADDR", "MASTER_PORT", "SLURM_NTASKS", "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_TASKS_PER_NODE", "SLURM_STEP_NODELIST", "SLURM_STEP_ID", "SLURM_NODEID", "TORCHELASTIC_USE_AGENT_STORE",
)  # fmt: skip
FAULT = "it is an error of a library, the driver or this program: its traceback is in machine.json"
MOST = 8000  # characters of a traceback


def taken_out() -> dict[str, str]:
    """Take the variables that say which rank this is out of the environment: what is started here works alone."""
    return {name: os.environ.pop(name) for name in OF_RANKS if name in os.environ}


def look(name: str, machine: Machine) -> tuple[Found, bool]:
    """Do a check; return what it found, and whether this process can go on: after a device's error it may not."""
    check = next(check for check in CHECKS if check.name == name)
    try:
        module = importlib.import_module(f"ranger21.machine.{check.module}")
        return getattr(module, check.function)(machine), True
    except UserError as error:
        return Found(str(error), FAILED), True
    except Exception as error:
        told = {"traceback": "".join(traceback.format_exception(error))[-MOST:]}
        return Found(f"{type(error).__name__}: {reason(error)}", FAILED, FAULT, told), False


def _free() -> bool:
    """Give the device's memory back, for other processes. Returns whether this one still holds the device."""
    gc.collect()
    torch: Any = sys.modules.get("torch")  # if a check has imported it
    if torch is None or not torch.cuda.is_initialized():
        return False
    torch.cuda.empty_cache()
    return True


def main() -> None:
    """Serve: JSON comes in (first what a Machine is made of, then names of checks) and goes out."""
    die_with_the_parent()
    there = Connection(int(sys.argv[1]))
    told: dict[str, Any] = json.loads(there.recv_bytes())
    overrides = tuple(told["overrides"])
    config = compose_config(list(overrides))
    machine = Machine(config, overrides, told["quick"], Path(told["work"]), told["numbers"], taken_out())
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
