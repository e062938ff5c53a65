"""The speeds behind the estimated cost of a grid: of machine.json files, and of short trainings (--measure)."""

from __future__ import annotations

import datetime
import logging
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranger21.grid.cost import cost, require_use, train_images
from ranger21.grid.jobs import PlannedRun
from ranger21.machine.listing import CHECKS
from ranger21.machine.places import working
from ranger21.machine.record import NAME, Measured, read, training
from ranger21.machine.running import CheckRequest, rows
from ranger21.system.errors import UserError

log = logging.getLogger("ranger21")
LIMIT = 600.0  # seconds for one training
USED = [check for check in CHECKS if check.name in ("device", "training")]


@dataclass
class Speeds:
    """Measured speeds, and what else the short trainings told.

    Attributes:
        machines: the speeds.
        counted: numbers of training images, by `repr` of the data's settings.
        failed: a sentence for each training that could not be measured.
    """

    machines: list[Measured] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def recorded(jobs: Sequence[PlannedRun], paths: Sequence[Path], here: bool) -> list[Measured]:
    """Return the speeds in machine.json files.

    Args:
        jobs: the runs of the grid.
        paths: files that have been asked for; each must have measured one of the runs.
        here: without such files, whether to use the machine.json in the current folder if it measured some of the runs.
    """
    machines = [read(path) for path in paths]
    require_use(jobs, machines)
    if machines or not here or not Path(NAME).exists():
        return machines
    try:
        machines = [read(Path(NAME))]
        require_use(jobs, machines)
    except UserError as error:
        log.warning("%s is not used: %s", NAME, error)
        return []
    return machines


def to_measure(
    jobs: Sequence[PlannedRun], left: Sequence[PlannedRun], machines: Sequence[Measured]
) -> list[PlannedRun]:
    """Return one run for each distinct training among those `left` whose cost is unknown."""
    distinct: dict[str, PlannedRun] = {}
    for job in left:
        if cost(jobs, machines, [job]).hours is None:
            distinct.setdefault(f"{training(job.config)} {job.config.data}", job)
    return list(distinct.values())


def measure(jobs: Sequence[PlannedRun], machines: Sequence[Measured], begins: Callable[[str], None]) -> Speeds:
    """Train each run for 40 steps in a temporary folder, as check_machine.py does, and return all speeds.

    The first quarter of the steps does not count, because these are slower. Nothing is left behind.

    Args:
        jobs: one run for each training (see `to_measure`).
        machines: the speeds that are known already.
        begins: called with a description of each training before it begins.
    """
    found = Speeds(list(machines))
    for number, job in enumerate(jobs, 1):
        name = f"{job.config.model.label} with {job.config.optimizer.name}, data={job.config.data.name}"
        begins(f"measuring {number}/{len(jobs)}: {name}")
        with (
            tempfile.TemporaryDirectory(prefix="rm-", ignore_cleanup_errors=True) as temporary,
            working(job.config, Path(temporary)) as work,
        ):
            request = CheckRequest(job.overrides, False, LIMIT, None, work, Path(temporary))
            seen = {row.check: row.found for row in rows(request, USED, lambda name: None)}
            if count := train_images(work / "run"):
                found.counted[repr(job.config.data)] = count
        if "images_per_s" not in seen["training"].numbers:
            found.failed.append(f"{name} could not be measured: {seen['training'].seen}")
        elif not any(machine.is_of(job.config) for machine in found.machines):
            found.machines.append(_measured(job, seen["training"].numbers, seen["device"].numbers))
    return found


def _measured(job: PlannedRun, numbers: Mapping[str, Any], device: Mapping[str, Any]) -> Measured:
    whose = f"{device.get('device', 'an unknown device')} of {socket.gethostname()}, {datetime.date.today()}"
    size = numbers.get("checkpoint_bytes")
    return Measured("this command", training(job.config), numbers["images_per_s"], size, whose)
