"""The data loaders that bench_data.py compares. Not a script: it has no command line of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.transforms.v2 import functional as v2

from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.images import ImageBatch
from ranger21.data.loader import Loader
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD
from ranger21.data.order import Share, TrainBatches
from ranger21.engine.course import Course

BATCH = 64
RECIPE = [v1.Resize((288, 288)), v1.RandomCrop(256), v1.RandomHorizontalFlip(), v1.ColorJitter(0.4, 0.4, 0.4)]
RRC = [v1.RandomResizedCrop(256), v1.RandomHorizontalFlip()]  # data.augment=rrc
Batches = Callable[[int], Iterator[int]]  # from a number of workers to an endless stream of batch sizes


def ours(data: Path, *overrides: str, on_device: bool = False) -> Batches:
    """Return this project's loader; with `on_device`, including color jitter and normalization to floats."""

    def batches(workers: int) -> Iterator[int]:
        config = compose_config([f"data.root={data}", f"data.batch_size={BATCH}", *overrides])
        built = build_data(config.data, seed=0)
        course = Course(len(built.train), BATCH, epochs=10_000)
        keys = TrainBatches(course, 0, 1, course.total_steps, Share())
        to_input = built.to_input.to(torch.float32)
        for batch in Loader(built.train, keys, workers, pin_memory=False):
            assert batch is not None
            if on_device:
                to_input(batch.images, batch.rest)
            images = len(batch.labels)
            del batch  # as the training loop does
            yield images

    return batches


def classic(data: Path, recipe: list[Any]) -> Batches:
    """Return torchvision's ImageFolder with Pillow and torch's DataLoader, up to normalized floats."""

    def batches(workers: int) -> Iterator[int]:
        steps = [*recipe, v1.ToTensor(), v1.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        folder = torchvision.datasets.ImageFolder(str(data / "train"), v1.Compose(steps))
        loader = DataLoader(folder, BATCH, shuffle=True, num_workers=workers, drop_last=True)
        while True:
            yield from (len(labels) for _, labels in loader)

    return batches


def timms(data: Path, recipe: list[Any]) -> Batches:
    """Return timm's dataset and prefetching loader with the same transforms, up to normalized floats."""

    def batches(workers: int) -> Iterator[int]:
        dataset = timm.data.ImageDataset(str(data / "train"))
        loader = timm.data.create_loader(
            dataset, (3, 256, 256), BATCH, is_training=True, num_workers=workers, persistent_workers=workers > 0,
            device=torch.device("cpu"), pin_memory=False,
        )  # fmt: skip
        dataset.transform = v1.Compose([*recipe, timm.data.transforms.ToNumpy()])
        while True:
            yield from (len(labels) for _, labels in loader)

    return batches


def dali(data: Path, whole: bool) -> Batches:
    """Return DALI's reader and decoder on the CPU with crop and flip; with `whole`, also resize and color jitter."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def  # type: ignore[untyped-decorator, unused-ignore]
    def pipeline() -> Any:
        files, labels = fn.readers.file(file_root=str(data / "train"), random_shuffle=True)
        images = fn.decoders.image(files, device="cpu", output_type=types.RGB)
        if whole:
            images = fn.resize(images, size=[288, 288], antialias=True)
        place = {f"crop_pos_{axis}": fn.random.uniform(range=[0.0, 1.0]) for axis in "xy"}
        images = fn.crop(images, crop=(256, 256), **place)
        images = fn.flip(images, horizontal=fn.random.coin_flip())
        if whole:
            factors = {name: fn.random.uniform(range=[0.6, 1.4]) for name in ("brightness", "contrast", "saturation")}
            images = fn.color_twist(images, **factors)
            mean, std = ([255 * x for x in values] for values in (IMAGENET_MEAN, IMAGENET_STD))
            images = fn.crop_mirror_normalize(images, dtype=types.FLOAT, mean=mean, std=std)
        return images, labels

    def batches(workers: int) -> Iterator[int]:
        made = pipeline(batch_size=BATCH, num_threads=max(1, workers), device_id=None, prefetch_queue_depth=1)
        made.build()
        while True:
            yield len(made.run()[1])

    return batches


def decoding(files: list[Path], decode: Callable[[np.ndarray], Any]) -> Batches:
    """Return a decoder alone, on files in memory: a lower bound of the loading time."""
    contents = [np.fromfile(file, np.uint8) for file in files]

    def batches(workers: int) -> Iterator[int]:
        while True:
            for begin in range(0, len(contents), BATCH):
                some = contents[begin : begin + BATCH]
                for content in some:
                    decode(content)
                yield len(some)

    return batches


def torchvisions(content: np.ndarray) -> Any:
    return torchvision.io.decode_jpeg(torch.from_numpy(content), mode=torchvision.io.ImageReadMode.RGB)


def jitters(data: Path) -> tuple[Batches, Batches]:
    """Return flip, jitter and normalization of a batch in memory: by torchvision v2 image by image, and by ours."""
    built = build_data(compose_config([f"data.root={data}", f"data.batch_size={BATCH}"]).data, seed=0)
    batch = built.train.__getitems__([(0, i) for i in range(BATCH)])
    assert isinstance(batch, ImageBatch) and batch.rest is not None
    to_input = built.to_input.to(torch.float32)
    pairs = list(zip(batch.images, batch.rest, strict=True))
    operations = (v2.adjust_brightness, v2.adjust_contrast, v2.adjust_saturation)

    def theirs(workers: int) -> Iterator[int]:
        while True:
            for image, row in pairs:
                image = v2.horizontal_flip(image) if row[0] else image
                for which in row[4:].int().tolist():
                    image = operations[which](image, float(row[1 + which]))
                v2.normalize(v2.to_dtype(image, torch.float32, scale=True), list(IMAGENET_MEAN), list(IMAGENET_STD))
            yield BATCH

    def own(workers: int) -> Iterator[int]:
        while True:
            to_input(batch.images, batch.rest)
            yield BATCH

    return theirs, own
