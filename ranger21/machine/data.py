"""Checks of the data: readable images, an intact pack, and the speed of the loader."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ranger21.config import ImageFolderConfig
from ranger21.data.build import Data, build_data
from ranger21.data.disk_space import size_text
from ranger21.data.loader import Loader, available_workers
from ranger21.data.order import Share, TrainBatches
from ranger21.data.pack import read_facts
from ranger21.engine.course import Course
from ranger21.machine.check import FAILED, WARNING, CheckResult, Machine
from ranger21.machine.device import device_of
from ranger21.packing.make import damaged_shards
from ranger21.system.errors import UserError
from ranger21.system.processes import granted_cores
from ranger21.system.wording import first_few

SAMPLE, QUICK_SAMPLE = 256, 32  # images of each split that are decoded
SECONDS, QUICK_SECONDS = 2.0, 1.0  # seconds of loading with each number of workers
SPARE = 1.2  # the loader should deliver this many times the images/s of the training


def opened(machine: Machine) -> Data:
    """Open the dataset. Raises a UserError if it is missing or invalid."""
    machine.config.data.require()
    machine.config.data.prepare()
    return build_data(machine.config.data, machine.config.seed_of_data)


def sample(machine: Machine) -> CheckResult:
    """Decode random images of the training and validation sets."""
    data = opened(machine)
    most = QUICK_SAMPLE if machine.quick else SAMPLE
    bad: list[str] = []
    begun, count = time.perf_counter(), 0
    for images in (data.train, data.validated(data.watched)):
        chosen = np.random.default_rng(0).permutation(len(images))[:most]
        for index in chosen.tolist():
            if isinstance(made := images.__getitems__([(0, index)]), UserError):
                bad.append(str(made))
            bad += made.unreadable if made and not isinstance(made, UserError) else []
            count += 1
    rate = count / (time.perf_counter() - begun)
    numbers = {
        "train_images": len(data.train), "val_images": len(data.val), "classes": len(data.classes),
        "fingerprint": data.fingerprint, "decoded": count, "unreadable": len(bad), "images_per_s": rate,
    }  # fmt: skip
    if bad:
        return CheckResult(f"{len(bad)} of {count} images cannot be read: {first_few(bad, 1)}", FAILED, "", numbers)
    counts = f"{data.counts} images of {len(data.classes):,} classes"
    return CheckResult(f"{counts}; {count} decoded, {rate:,.0f} images/s in one process", numbers=numbers)


def pack(machine: Machine) -> CheckResult:
    """Verify the checksum of every archive of the pack."""
    config = machine.config.data
    if not isinstance(config, ImageFolderConfig) or not config.pack:
        return CheckResult("the run has no data.pack")
    place = Path(config.pack)
    facts = read_facts(place)
    size = sum(shard["bytes"] for shards in facts["splits"].values() for shard in shards)
    begun = time.perf_counter()
    damaged = damaged_shards(place, granted_cores())
    rate = size / (time.perf_counter() - begun)
    numbers = {"bytes": size, "bytes_per_s": rate, "damaged": damaged}
    if damaged:
        text = f"{len(damaged)} archives of {place} are damaged or missing ({first_few(damaged, 5)})"
        return CheckResult(text, FAILED, "delete them and run the command that made the pack again", numbers)
    return CheckResult(f"{size_text(size)}, all checksums are right; read at {size_text(rate)}/s", numbers=numbers)


def loader(machine: Machine) -> CheckResult:
    """Measure images/s by the number of workers, and compare with the speed of the training."""
    data, config, here = opened(machine), machine.config, device_of(machine)
    own = available_workers(1, here.type) if config.data.workers is None else config.data.workers
    found = {n: _rate(machine, data, n) for n in ([own] if machine.quick else tried(own, granted_cores()))}
    eaten = machine.number("training", "images_per_s")
    rates = ", ".join(f"{n}: {rate:,.0f}" for n, rate in found.items())
    told = f"images/s by workers: {rates}; the run has {own} workers"
    seen = told + (f" and trains on {eaten:,.0f} images/s" if eaten else "; its speed is not known")
    numbers = {"images_per_s": {str(n): rate for n, rate in found.items()}, "workers": own, "eaten": eaten}
    if eaten and own and found[own] < SPARE * eaten:
        best = max(found, key=lambda n: found[n])
        more = f"data.workers={best}, or " if best != own and found[best] > SPARE * found[own] else ""
        remedy = f"the loader is hardly faster than the training: use {more}a pack (docs/data.md), or more cores"
        return CheckResult(seen, WARNING, remedy, numbers)
    return CheckResult(seen, numbers=numbers)


def tried(own: int, cores: int) -> list[int]:
    """Return the numbers of workers to try: the run's own, the number of cores, and 1, 4, 8, 16, … below that."""
    numbers = {own, 1, cores, *(n for n in (4, 8, 16, 32, 64) if n <= cores)}
    return sorted(numbers)


def _rate(machine: Machine, data: Data, workers: int) -> float:
    """Return images/s, measured after the first batches, which wait for the workers to start."""
    batch = machine.config.data.batch_size
    course = Course(len(data.train), batch, 1000, None, None)
    keys = TrainBatches(course, machine.config.seed_of_data, 1, course.total_steps, Share())
    pin = device_of(machine).type == "cuda"
    batches = iter(Loader(data.train, keys, workers, pin, machine.config.data.timeout))
    limit = QUICK_SECONDS if machine.quick else SECONDS
    try:
        for _ in range(max(1, 2 * workers)):
            next(batches)
        begun, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - begun < limit:
            next(batches)
            count += batch
        return count / (time.perf_counter() - begun)
    finally:
        batches.close()
