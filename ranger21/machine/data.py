"""The images: whether they can be read, whether a pack is whole, how many a second the loader gives."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ranger21.config import ImageFolderConfig
from ranger21.data.build import Data, build_data, prepare_data
from ranger21.data.disk_space import size_text
from ranger21.data.layout import require_data
from ranger21.data.loader import Loader, available_workers
from ranger21.data.order import Share, TrainBatches
from ranger21.data.pack import read_facts
from ranger21.data.packing import damaged_shards
from ranger21.engine.course import Course
from ranger21.machine.check import FAILED, WARNING, Found, Machine
from ranger21.machine.device import device_of
from ranger21.system.errors import UserError
from ranger21.system.processes import granted_cores
from ranger21.system.wording import first_few

SAMPLE, QUICK_SAMPLE = 256, 32  # images of each split that are decoded
SECONDS, QUICK_SECONDS = 2.0, 1.0  # of loading with each number of processes
SPARE = 1.2  # times what the device eats: what the loader should give


def opened(machine: Machine) -> Data:
    """The data set. Raises a UserError if it is not there or not what it should be."""
    require_data(machine.config.data)
    prepare_data(machine.config.data)
    return build_data(machine.config.data, machine.config.seed_of_data)


def sample(machine: Machine) -> Found:
    """Decode some images to train and to validate on, drawn at random."""
    data = opened(machine)
    most = QUICK_SAMPLE if machine.quick else SAMPLE
    bad: list[str] = []
    begun, count = time.perf_counter(), 0
    for pictures in (data.train, data.validated(data.watched)):
        chosen = np.random.default_rng(0).permutation(len(pictures))[:most]
        for index in chosen.tolist():
            if isinstance(made := pictures.__getitems__([(0, index)]), UserError):
                bad.append(str(made))
            bad += made.unreadable if made and not isinstance(made, UserError) else []
            count += 1
    rate = count / (time.perf_counter() - begun)
    numbers = {
        "train_images": len(data.train), "val_images": len(data.val), "classes": len(data.classes),
        "fingerprint": data.fingerprint, "decoded": count, "unreadable": len(bad), "images_per_s": rate,
    }  # fmt: skip
    if bad:
        return Found(f"{len(bad)} of {count} images cannot be read: {first_few(bad, 1)}", FAILED, "", numbers)
    counts = f"{data.counts} images of {len(data.classes):,} classes"
    return Found(f"{counts}; {count} decoded, {rate:,.0f} images/s in one process", numbers=numbers)


def pack(machine: Machine) -> Found:
    """Compare every archive of the pack with its sum, which reads all of it."""
    config = machine.config.data
    if not isinstance(config, ImageFolderConfig) or not config.pack:
        return Found("the run has no data.pack")
    place = Path(config.pack)
    facts = read_facts(place)
    size = sum(shard["bytes"] for shards in facts["splits"].values() for shard in shards)
    begun = time.perf_counter()
    damaged = damaged_shards(place, granted_cores())
    rate = size / (time.perf_counter() - begun)
    numbers = {"bytes": size, "bytes_per_s": rate, "damaged": damaged}
    if damaged:
        text = f"{len(damaged)} archives of {place} are damaged or missing ({first_few(damaged, 5)})"
        return Found(text, FAILED, "delete them and run the command again that made the pack", numbers)
    return Found(f"{size_text(size)}, all sums are right; read at {size_text(rate)}/s", numbers=numbers)


def loader(machine: Machine) -> Found:
    """Images a second by the number of loader processes, beside those that the training takes."""
    data, config, here = opened(machine), machine.config, device_of(machine)
    own = available_workers(1, here.type) if config.data.workers is None else config.data.workers
    found = {n: _rate(machine, data, n) for n in ([own] if machine.quick else tried(own, granted_cores()))}
    eaten = machine.number("training", "images_per_s")
    rates = ", ".join(f"{n}: {rate:,.0f}" for n, rate in found.items())
    told = f"images/s by processes: {rates}; the run has {own}"
    seen = told + (f", and takes {eaten:,.0f}" if eaten else ", and what it takes is not known")
    numbers = {"images_per_s": {str(n): rate for n, rate in found.items()}, "workers": own, "eaten": eaten}
    if eaten and own and found[own] < SPARE * eaten:
        best = max(found, key=lambda n: found[n])
        more = f"data.workers={best}, or " if best != own and found[best] > SPARE * found[own] else ""
        return Found(seen, WARNING, f"little to spare: {more}a pack (docs/data.md), or more cores", numbers)
    return Found(seen, numbers=numbers)


def tried(own: int, cores: int) -> list[int]:
    """Numbers of processes: the run's own; 1, 4, 8, 16, … and the cores, up to the cores."""
    numbers = {own, 1, cores, *(n for n in (4, 8, 16, 32, 64) if n <= cores)}
    return sorted(numbers)


def _rate(machine: Machine, data: Data, workers: int) -> float:
    """Images a second, after the first batches, which wait for the processes to start."""
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
