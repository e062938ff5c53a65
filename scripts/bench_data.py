"""Compare the images per second of several data loaders in one run.

The script makes JPEGs of ImageNet's sizes from photographs (pip install 'ranger21-imagenet[bench]') and packs them.
In every round, each loader loads them once, so that changes in the machine's speed affect all loaders. Ratios are taken
within a round. All files are in the page cache: this measures CPUs, not disks. DALI is included if it is installed.

  python scripts/bench_data.py                                  one process with one thread, then 1 and 2 workers
  python scripts/bench_data.py --workers 0 --rounds 7 --json bench.json
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _installed
import numpy as np
import PIL
import simplejpeg
import timm
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision import transforms as v1
from torchvision.transforms.v2 import functional as v2

from ranger21.config import ImageFolderConfig
from ranger21.config.arguments import Parser, as_file, as_positive, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.data.build import build_data
from ranger21.data.folders import image_folders
from ranger21.data.images import ImageBatch
from ranger21.data.loader import Loader
from ranger21.data.on_device import IMAGENET_MEAN, IMAGENET_STD
from ranger21.data.order import Share, TrainBatches
from ranger21.data.pack import PackRecipe
from ranger21.data.photographs import jpegs
from ranger21.data.sources import FolderSource
from ranger21.engine.course import Course
from ranger21.packing.make import make_pack
from ranger21.system.files import write_atomically

BATCH = 64
RECIPE = [v1.Resize((288, 288)), v1.RandomCrop(256), v1.RandomHorizontalFlip(), v1.ColorJitter(0.4, 0.4, 0.4)]
RRC = [v1.RandomResizedCrop(256), v1.RandomHorizontalFlip()]  # data.augment=rrc
PACKS = {
    "jpeg 4:4:4": PackRecipe(288, "squash", "jpeg", 95, "4:4:4"),
    "jpeg 4:2:0": PackRecipe(288, "squash", "jpeg", 95, "4:2:0"),
    "raw": PackRecipe(288, "squash", "raw", None, None),
}
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


def rate(batches: Iterator[int], workers: int, seconds: float) -> float:
    """Return images per second, measured after the batches that workers prefetched are used up."""
    for _ in range(2 * workers + 2):
        next(batches)
    images, begin = 0, time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        images += next(batches)
    return images / spent


def make_data(folder: Path, images: int) -> dict[str, Path]:
    """Make JPEGs in ImageNet's layout and packs of them; return the folders by name."""
    for number, content in enumerate(jpegs(images)):
        for split in ("train", "val") if number < 10 else ("train",):
            place = folder / "data" / split / f"n{number % 10:08d}" / f"{number:06d}.JPEG"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    config = compose_config([f"data.root={folder / 'data'}"]).data
    assert isinstance(config, ImageFolderConfig)
    root, indices = image_folders(config)
    sources = {split: FolderSource(root / split, index) for split, index in indices.items()}
    for name, kind in PACKS.items():
        make_pack(sources, config, kind, folder / name, processes=1)
        if kind.format == "jpeg":  # the same files unpacked, for the other loaders
            for shard in (folder / name).glob("train-*.tar"):
                torchvision.datasets.utils.extract_archive(str(shard), str(folder / f"{name} files" / "train"))
    return {path.name: path for path in folder.iterdir()}


def contenders(places: dict[str, Path]) -> dict[str, Batches]:
    data = places["data"]
    theirs, own = jitters(data)
    table = {
        "ImageFolder + Pillow recipe, floats": classic(data, RECIPE),
        "timm's loader, same recipe, floats": timms(data, RECIPE),
        "folder, transforms=pil, uint8": ours(data, "data.transforms=pil"),
        "folder, uint8": ours(data),
        "folder, floats": ours(data, on_device=True),
        "floor: decode the folder's files": decoding(sorted((data / "train").glob("*/*")), simplejpeg.decode_jpeg),
    }
    for name in ("jpeg 4:4:4", "jpeg 4:2:0"):
        files = sorted((places[f"{name} files"] / "train").glob("*/*"))
        table |= {
            f"{name} pack, uint8": ours(data, f"data.pack={places[name]}"),
            f"{name} pack, floats": ours(data, f"data.pack={places[name]}", on_device=True),
            f"floor: decode the {name} files": decoding(files, simplejpeg.decode_jpeg),
            f"{name} files decoded by torchvision": decoding(files, torchvisions),
        }
    table |= rescaled(places)
    table |= {
        "raw pack, uint8": ours(data, f"data.pack={places['raw']}"),
        "raw pack, floats": ours(data, f"data.pack={places['raw']}", on_device=True),
        "jitter + normalize: torchvision v2": theirs,
        "jitter + normalize: on the device": own,
    }
    try:
        table["DALI, folder, whole recipe, floats"] = dali(data, whole=True)
        for name in ("jpeg 4:4:4", "jpeg 4:2:0"):
            table[f"DALI, {name} files, uint8"] = dali(places[f"{name} files"], whole=False)
    except ImportError:
        print("DALI is not installed (pip install nvidia-dali-cuda120) and is left out.")
    return table


def rescaled(places: dict[str, Path]) -> dict[str, Batches]:
    """Return the loaders of the other augmentations, which crop at random scales."""
    data = places["data"]
    table = {
        "rrc: ImageFolder + Pillow, floats": classic(data, RRC),
        "rrc: timm's loader, floats": timms(data, RRC),
        "rrc: folder, floats": ours(data, "data.augment=rrc", on_device=True),
    }
    for name, place in {"folder": None, **{f"{kind} pack": places[kind] for kind in PACKS}}.items():
        pack = f"data.pack={place or 'null'}"
        for augment in ("rrc", "trivial", "rand"):
            table[f"{augment}: {name}, uint8"] = ours(data, pack, f"data.augment={augment}")
    more = ("data.augment=rrc", "data.erase=0.25", "data.mixup=0.2", "data.cutmix=1.0")
    pack = f"data.pack={places['jpeg 4:4:4']}"
    table["rrc: jpeg 4:4:4 pack, floats"] = ours(data, pack, more[0], on_device=True)
    table["rrc, mixed: jpeg 4:4:4 pack, uint8"] = ours(data, pack, *more)
    table["rrc, mixed: jpeg 4:4:4 pack, floats"] = ours(data, pack, *more, on_device=True)
    return table


def measure(table: dict[str, Batches], workers: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {name: [] for name in table}
    for number in range(rounds):
        for name, batches in table.items():
            if workers and any(word in name for word in ("floor", "decoded by", "jitter")):
                continue  # these have no workers
            stream = batches(workers)
            rates[name].append(rate(stream, workers, seconds))
            if hasattr(stream, "close"):
                stream.close()
        print(f"round {number + 1} of {rounds}, {workers} workers", flush=True)
    return {name: values for name, values in rates.items() if values}


def show(rates: dict[str, list[float]], workers: int) -> None:
    reference = next(iter(rates.values()))
    where = f"{workers} workers" if workers else "one process with one thread"
    print(f"\n{where}, n = {len(reference)} rounds")
    print(f"{'':44}{'images/s':>9}{'from':>8}{'to':>8}   ratio to the first loader, per round")
    for name, values in rates.items():
        ratios = [value / first for value, first in zip(values, reference, strict=True)]
        middle, low, high = statistics.median(values), min(values), max(values)
        spread = f"{statistics.median(ratios):6.2f} x  ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:44}{middle:9.0f}{low:8.0f}{high:8.0f}   {spread}")


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--workers", type=as_whole(0, 1025), nargs="+", default=[0, 1, 2], help="numbers of workers (default: 0 1 2)"
    )
    parser.add_argument("--rounds", type=as_whole(), default=5, help="number of rounds (default: %(default)s)")
    text = "seconds per measurement (default: %(default)s)"
    parser.add_argument("--seconds", type=as_positive, default=2.0, help=text)
    parser.add_argument("--images", type=as_whole(), default=640, help="number of images (default: %(default)s)")
    text = "only loaders whose name contains one of these texts; the first one is always included"
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help=text)
    parser.add_argument("--json", type=as_file(), help="also write all rates to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        table = contenders(make_data(Path(folder), args.images))
        first = next(iter(table))
        table = {
            name: batches for name, batches in table.items() if name == first or any(text in name for text in args.only)
        }
        results = {workers: measure(table, workers, args.rounds, args.seconds) for workers in args.workers}
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "Pillow": PIL.__version__}
    versions["timm"] = timm.__version__
    print("\n", ", ".join(f"{k} {v}" for k, v in versions.items()), f", Python {platform.python_version()}", sep="")
    for workers, rates in results.items():
        show(rates, workers)
    if args.json:
        write_atomically(args.json, json.dumps({"versions": versions, "rates": results}, indent=1))


if __name__ == "__main__":
    with ending_well("measures again"):
        main()
