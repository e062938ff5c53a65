"""Measure packs: the JPEG settings, the time to encode, and the way from a download to a pack.

The images are photographs (pip install 'ranger21-imagenet[bench]'), resized as the paper's recipe resizes ImageNet. By
default, the command prints for each JPEG setting the bytes per image, the loss against the resized pixels and the
decoding speed, and then what Huffman tables made for each image (libjpeg's `optimize`) cost and save.

With --from, it makes a download of the photographs (also needs the extra [prepare]) and packs it, in each round once by
prepare_imagenet.py and pack.py, and once by pack.py --from: seconds and peak disk space of each.

  python scripts/bench_pack.py
  python scripts/bench_pack.py --images 200 --rounds 9
  python scripts/bench_pack.py --from official --images 8400 --rounds 3
"""

import argparse
import io
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _installed
import numpy as np
import simplejpeg
import torch
from PIL import Image

from ranger21.config import ImageFolderConfig
from ranger21.config.arguments import Parser, as_whole
from ranger21.config.compose import compose_config
from ranger21.config.ending import ending_well
from ranger21.data.decode import Encoded
from ranger21.data.pack import PackRecipe
from ranger21.data.photographs import jpegs
from ranger21.downloads.devkit import DEVKIT, META, TRUTH
from ranger21.downloads.official import TRAIN, VAL
from ranger21.packing.encoding import encoded, pixels_of
from ranger21.system.errors import UserError

KINDS = [(quality, colour) for quality in (85, 90, 95) for colour in ("4:2:0", "4:4:4")]


def seconds_to_decode(files: list[bytes]) -> float:
    """Return the CPU seconds to decode a file."""
    begin = time.process_time()
    for file in files:
        simplejpeg.decode_jpeg(file)
    return (time.process_time() - begin) / len(files)


def as_file(content: bytes) -> Encoded:
    return Encoded(np.frombuffer(content, np.uint8), "a photograph", "")


def jpeg_settings(images: list[np.ndarray], config: ImageFolderConfig, rounds: int) -> None:
    """Print size, loss and decoding speed of each JPEG setting."""
    kinds = {kind: PackRecipe(config.resize, config.resize_mode, "jpeg", *kind) for kind in KINDS}
    files = {kind: [encoded(image, recipe).content for image in images] for kind, recipe in kinds.items()}
    times = [{kind: seconds_to_decode(some) for kind, some in files.items()} for _ in range(rounds)]
    print(f"{len(images)} photographs at {config.resize}x{config.resize}; raw: {images[0].nbytes / 1e3:.0f} kB each")
    print("quality  color       kB   loss of 255   decoded per second (min, max)")
    for kind, some in files.items():
        pairs = zip(some, images, strict=True)
        loss = np.mean([np.abs(simplejpeg.decode_jpeg(f).astype(int) - p).mean() for f, p in pairs])
        speed = spread([1 / round_[kind] for round_ in times], "{:.0f}")
        print(f"{kind[0]:7}  {kind[1]:6}{np.mean([len(f) for f in some]) / 1e3:8.1f}{loss:14.2f}   {speed}")


def encoding(contents: list[bytes], config: ImageFolderConfig, rounds: int) -> None:
    """Print what optimized Huffman tables cost and save when images are decoded, resized and encoded, in CPU time."""
    torch.set_num_threads(1)
    times: dict[bool, list[float]] = {True: [], False: []}
    files: dict[bool, list[bytes]] = {}
    for number in range(rounds):
        for optimize in (True, False) if number % 2 else (False, True):
            begin = time.process_time()
            files[optimize] = [jpeg(pixels_of(as_file(content), config), optimize) for content in contents]
            times[optimize].append((time.process_time() - begin) / len(contents))
    reading = [[seconds_to_decode(files[optimize]) for optimize in (True, False)] for _ in range(rounds)]
    pairs = zip(*files.values(), strict=True)
    same = all((simplejpeg.decode_jpeg(a) == simplejpeg.decode_jpeg(b)).all() for a, b in pairs)
    sizes = {optimize: sum(map(len, some)) for optimize, some in files.items()}
    rates = [spread([1 / seconds for seconds in times[optimize]], "{:.0f}") for optimize in (True, False)]
    print(f"images per second of CPU time with optimized tables: {rates[0]}; with standard tables: {rates[1]}")
    faster = spread([slow / fast for slow, fast in zip(times[True], times[False], strict=True)], "{:.3f}")
    decoded = spread([slow / fast for slow, fast in reading], "{:.3f}")
    more = f"{sizes[False] / sizes[True] - 1:.1%} more bytes"
    print(f"standard tables: {faster} times as fast, {more}, decoded {decoded} times as fast (n = {rounds} pairs)")
    print(f"pixels {'identical' if same else 'DIFFERENT'}")


def jpeg(pixels: np.ndarray, optimize: bool) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling="4:4:4", optimize=optimize)
    return buffer.getvalue()


def spread(values: list[float], form: str) -> str:
    """Return median, minimum and maximum."""
    return f"{form} ({form} to {form})".format(statistics.median(values), min(values), max(values))


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def splits(count: int) -> dict[str, list[tuple[str, str, bytes]]]:
    """Return (name, wnid, content) of each image: 100 classes, 5 % for validation, up to 700 different contents."""
    contents = jpegs(min(count, 700))
    val = max(100, count // 20)
    wnids = [f"n{number:08d}" for number in range(100)]
    rows = [(i, wnids[i % 100], contents[i % len(contents)]) for i in range(count)]
    return {
        "train": [(f"{wnid}_{i}.JPEG", wnid, data) for i, wnid, data in rows[val:]],
        "validation": [(f"ILSVRC2012_val_{i + 1:08d}.JPEG", wnid, data) for i, wnid, data in rows[:val]],
    }


def make_official(target: Path, count: int) -> None:
    """Write the three official archives."""
    from scipy.io import savemat

    images = splits(count)
    wnids = sorted({wnid for _, wnid, _ in images["train"]})
    with tarfile.open(target / TRAIN, "w") as tar:
        for wnid in wnids:
            with tarfile.open(fileobj=(inner := io.BytesIO()), mode="w") as of_class:
                for name, _, data in (image for image in images["train"] if image[1] == wnid):
                    add(of_class, name, data)
            add(tar, f"{wnid}.tar", inner.getvalue())
    with tarfile.open(target / VAL, "w") as tar:
        for name, _, data in images["validation"]:
            add(tar, name, data)
    synsets: Any = np.zeros((len(wnids), 1), [(name, object) for name in ("ILSVRC2012_ID", "WNID", "num_children")])
    synsets[:, 0] = [(float(number), wnid, 0.0) for number, wnid in enumerate(wnids, start=1)]
    savemat(meta := io.BytesIO(), {"synsets": synsets})
    with tarfile.open(target / DEVKIT, "w:gz") as tar:
        add(tar, TRUTH, "".join(f"{wnids.index(wnid) + 1}\n" for _, wnid, _ in images["validation"]).encode())
        add(tar, META, meta.getvalue())


def make_parquet(target: Path, count: int) -> None:
    """Write Hugging Face's parquet files: eight of training images in a random order, one of validation images."""
    import pyarrow
    from pyarrow import parquet

    for split, images in splits(count).items():
        files = 8 if split == "train" else 1
        order = np.random.default_rng(0).permutation(len(images))
        for number in range(files):
            some = [images[i] for i in order[number::files]]
            cells = [{"bytes": data, "path": f"{name[:-5]}_{wnid}.JPEG"} for name, wnid, data in some]
            file = target / f"{split}-{number:05d}-of-{files:05d}.parquet"
            parquet.write_table(pyarrow.table({"image": cells}), file, row_group_size=100)


FORMS: dict[str, Callable[[Path, int], None]] = {"official": make_official, "parquet": make_parquet}


class DiskWatch:
    """Measures the largest disk space that a folder takes, four times a second."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.peak, self.files, self._over = folder, 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "DiskWatch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            over = self._over.wait(0.25)
            done = subprocess.run(["du", "-sk", self.folder], capture_output=True, text=True)
            self.peak = max(self.peak, 1024 * int(done.stdout.split()[0]))
            count = subprocess.run(["du", "--inodes", "-s", self.folder], capture_output=True, text=True)
            self.files = max(self.files, int(count.stdout.split()[0]))
            if over:
                return


def from_download(form: str, count: int, rounds: int) -> None:
    """Print seconds, peak disk space and files of both ways from a download to a pack."""
    scripts = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="bench_pack-") as name:
        source, work = Path(name, "download"), Path(name, "work")
        source.mkdir()
        FORMS[form](source, count)
        print(
            f"{count:,} images in {form} form, {sum(f.stat().st_size for f in source.iterdir()) / 1e6:.0f} MB",
            flush=True,
        )
        unchecked = ["--no-checksums"] if form == "official" else []
        prepare: list[object] = [scripts / "prepare_imagenet.py", source, work / "tree", *unchecked]
        ways: dict[str, list[list[object]]] = {
            "prepare + pack": [prepare, [scripts / "pack.py", work / "pack", f"data.root={work / 'tree'}"]],
            "pack --from": [[scripts / "pack.py", work / "pack", "--from", source, *unchecked]],
        }
        results: dict[str, list[tuple[float, int, int]]] = {way: [] for way in ways}
        digests = set()
        for number in range(rounds):
            for way in list(ways)[:: 1 if number % 2 else -1]:
                work.mkdir()
                begin = time.perf_counter()
                with DiskWatch(work) as watch:
                    for arguments in ways[way]:
                        run([sys.executable, *map(str, arguments)])
                results[way].append((time.perf_counter() - begin, watch.peak, watch.files))
                digests.add((work / "pack" / "pack.json").read_bytes())
                shutil.rmtree(work)
                print(
                    f"{way}: {results[way][-1][0]:.1f} s, {watch.peak / 1e6:.0f} MB, {watch.files:,} files", flush=True
                )
        for way, some in results.items():
            seconds, peaks = spread([r[0] for r in some], "{:.1f}"), spread([r[1] / 1e6 for r in some], "{:.0f}")
            print(f"{way}: {seconds} s, peak {peaks} MB, {max(r[2] for r in some):,} files (n = {rounds})")
        both = zip(*results.values(), strict=True)
        print(
            f"seconds of the first to the second: {spread([a[0] / b[0] for a, b in both], '{:.2f}')}; "
            f"packs {'identical' if len(digests) == 1 else 'DIFFERENT'}"
        )


def run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise UserError(f"{command[1]} failed: {done.stdout[-500:]}")


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=as_whole(), help="number of images (default: 200; with --from: 8400)")
    text = "number of rounds, each with every setting or way (default: 5; with --from: 3)"
    parser.add_argument("--rounds", type=as_whole(), help=text)
    text = "compare the ways from a download of this form to a pack"
    parser.add_argument("--from", dest="form", choices=FORMS, help=text)
    args = parser.parse_args()
    if args.form:
        from_download(args.form, args.images or 8400, args.rounds or 3)
        return
    config = compose_config(["data.root=/unused"]).data
    assert isinstance(config, ImageFolderConfig)
    contents = jpegs(args.images or 200)
    images = [pixels_of(as_file(content), config) for content in contents]
    jpeg_settings(images, config, args.rounds or 5)
    encoding(contents, config, args.rounds or 5)


if __name__ == "__main__":
    with ending_well("measures again"):
        main()
