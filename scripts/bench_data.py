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
from collections.abc import Iterator
from pathlib import Path

import _installed
import PIL
import simplejpeg
import timm
import torch
import torchvision
from _loaders import RECIPE, RRC, Batches, classic, dali, decoding, jitters, ours, timms, torchvisions

from ranger21.config import ImageFolderConfig
from ranger21.config.arguments import Parser, as_file, as_positive, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.data.folders import image_folders
from ranger21.data.pack import PackRecipe
from ranger21.data.photographs import jpegs
from ranger21.data.sources import FolderSource
from ranger21.packing.make import make_pack
from ranger21.system.files import write_atomically

PACKS = {
    "jpeg 4:4:4": PackRecipe(288, "squash", "jpeg", 95, "4:4:4"),
    "jpeg 4:2:0": PackRecipe(288, "squash", "jpeg", 95, "4:2:0"),
    "raw": PackRecipe(288, "squash", "raw", None, None),
}


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
