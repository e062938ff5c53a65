"""Check of the disk for the runs: free space, and the time to write a checkpoint."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import torch

from ranger21.data.disk_space import size_text
from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.machine.places import disk_of
from ranger21.records.checkpoint import Checkpoints
from ranger21.system.errors import UserError
from ranger21.system.wording import reason

KEPT = 3  # checkpoints of a run: last, previous, best
UNKNOWN = 1 << 30  # bytes, assumed for a checkpoint if the model could not be built
SLOW = 30.0  # seconds for writing a checkpoint


def disk(machine: Machine) -> CheckResult:
    """Write a file of a checkpoint's size to the runs' disk, and check the free space there."""
    config = machine.config
    place = disk_of(config)
    size = machine.number("model", "checkpoint_bytes") or UNKNOWN
    free = shutil.disk_usage(place).free
    numbers: dict[str, float] = {"free_bytes": free, "checkpoint_bytes": size}
    told = f"{place}: {size_text(free)} free; a run keeps {KEPT} checkpoints of up to {size_text(size)}"
    if free < (KEPT + 1) * size:
        return CheckResult(told, FAILED, "free disk space, or choose outputs= on another disk", numbers)
    try:
        with tempfile.TemporaryDirectory(prefix=".check-machine-write-", dir=place) as folder:
            begun = time.perf_counter()
            Checkpoints(Path(folder)).save({"model": torch.zeros(int(size), dtype=torch.uint8)})
            taken = time.perf_counter() - begun
    except (OSError, UserError) as error:
        why = reason(error)
        remedy = "choose outputs= on a writable disk"
        return CheckResult(f"{place} cannot be written ({why})", FAILED, remedy, numbers)
    numbers |= {"write_seconds": taken, "bytes_per_s": size / taken}
    seen = f"{told}, written in {taken:.2g} s ({size_text(size / taken)}/s)"
    if taken > SLOW:
        remedy = "training waits for every checkpoint: choose outputs= on a faster disk"
        return CheckResult(seen, WARNING, remedy, numbers)
    return CheckResult(seen, numbers=numbers)
