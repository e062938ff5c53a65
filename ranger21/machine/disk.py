"""The disk that takes the runs: how much is free, and how long a checkpoint takes."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import torch

from ranger21.checkpoint import Checkpoints
from ranger21.data.room import size_text
from ranger21.machine.check import FAILED, WARNING, Found, Machine
from ranger21.machine.places import disk_of
from ranger21.models import build_model

KEPT = 3  # checkpoints of a run: last, previous, best
COPIES = 6  # of the weights that a checkpoint has at most: themselves, and Ranger21's state
SLOW = 30.0  # seconds


def disk(machine: Machine) -> Found:
    """Write a file of a checkpoint's size where the runs will be, and look at what is free there."""
    config = machine.config
    place = disk_of(config)
    size = estimated(machine)
    free = shutil.disk_usage(place).free
    numbers: dict[str, float] = {"free_bytes": free, "checkpoint_bytes": size}
    told = f"{place}: {size_text(free)} free; a run keeps {KEPT} checkpoints of up to {size_text(size)}"
    if free < (KEPT + 1) * size:
        return Found(told, FAILED, "make room, or choose outputs= on another disk", numbers)
    try:
        with tempfile.TemporaryDirectory(prefix=".check-machine-write-", dir=place) as folder:
            begun = time.perf_counter()
            Checkpoints(Path(folder)).save({"model": torch.zeros(int(size), dtype=torch.uint8)})
            taken = time.perf_counter() - begun
    except OSError as error:
        why = error.strerror or str(error)
        return Found(f"{place} cannot be written ({why})", FAILED, "choose outputs= on a disk that can", numbers)
    numbers |= {"write_seconds": taken, "bytes_per_s": size / taken}
    seen = f"{told}, written in {taken:.2g} s ({size_text(size / taken)}/s)"
    if taken > SLOW:
        return Found(seen, WARNING, "every checkpoint stops the training: outputs= on a faster disk", numbers)
    return Found(seen, numbers=numbers)


def estimated(machine: Machine) -> int:
    """The bytes of a checkpoint, from the model's weights."""
    with torch.device("meta"):
        model = build_model(machine.config.model, 1000, 3)
    return COPIES * sum(param.nbytes for param in model.parameters())
