"""Measure the index of a dataset of ImageNet's size, on 1000 temporary folders of empty files.

The files have sizes of 50 to 150 kB but are sparse and need no disk space. The script reports the time of a first start
(walking the tree and reading every file's size), a start from the cache, the fingerprint and the order of an epoch, and
the memory of a worker before and after it accesses the entries of many images.

  python scripts/bench_index.py
  python scripts/bench_index.py --images 100000 --rounds 3
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _installed

from ranger21.config.arguments import Parser, as_whole
from ranger21.config.ending import ending_well
from ranger21.data.identity import identify
from ranger21.data.index import Index
from ranger21.data.index_cache import SETTLED_SECONDS, cache_files
from ranger21.data.indexing import read_index
from ranger21.system.randomness import ORDER, generator

CLASSES = 1000


def make_tree(split: Path, images: int) -> None:
    for number in range(CLASSES):
        folder = split / f"n{number:08d}"
        folder.mkdir(parents=True)
        for image in range(number, images, CLASSES):
            file = os.open(folder / f"n{number:08d}_{image}.JPEG", os.O_CREAT | os.O_WRONLY)
            os.ftruncate(file, 50_000 + image % 100_000)
            os.close(file)


def timed(what: str, rounds: int, function: Callable[[], Any]) -> Any:
    """Call a function `rounds` times and print the median, minimum and maximum of wall-clock and CPU seconds."""
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter(), time.process_time()
        result = function()
        seconds.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    shown = [
        f"{name} {statistics.median(values):7.3f} s ({min(values):.3f} to {max(values):.3f})"
        for name, values in zip(("wall", "CPU"), zip(*seconds, strict=True), strict=True)
    ]
    print(f"{what:44}{', '.join(shown)}, n = {rounds}", flush=True)
    return result


def resident() -> float:
    """Return the resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def worker_memory(index: Index, touched: int) -> tuple[float, float]:
    """Return the resident MB of a forked process before and after it looks up paths and labels of `touched` images."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        before = resident()
        for image in generator(ORDER, 0, 0).integers(len(index), size=touched):
            assert index.path(int(image)) and index.labels[image] >= 0
        os.write(writer, f"{before} {resident()}".encode())
        os._exit(0)
    os.wait()
    before, after = map(float, os.read(reader, 100).split())
    return before, after


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=as_whole(), default=1_281_167, help="number of files (default: %(default)s)")
    text = "number of entries that the worker accesses (default: %(default)s)"
    parser.add_argument("--touched", type=as_whole(), default=100_000, help=text)
    parser.add_argument("--rounds", type=as_whole(), default=5, help="number of repetitions (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        split = Path(folder, "train")
        timed(f"making {args.images:,} files", 1, lambda: make_tree(split, args.images))
        time.sleep(SETTLED_SECONDS + 0.5)  # recently changed trees are not cached

        def first() -> Index:
            for place in cache_files(split):
                place.unlink(missing_ok=True)
            return read_index(split)

        timed("first start: walk, sizes, write the cache", min(2, args.rounds), first)
        index = timed("start from the cache", args.rounds, lambda: read_index(split))
        print(f"{'size of the cache':44}{cache_files(split)[0].stat().st_size / 1e6:8.1f} MB")
        timed("the fingerprint", args.rounds, lambda: identify({"train": index}))
        timed("the order of an epoch", args.rounds, lambda: generator(ORDER, 0, 1).permutation(len(index)))
        index.path(0), index.labels  # computed before the fork, as in a run
        before, after = worker_memory(index, args.touched)
        growth = 100 * (after / before - 1)
        what = f"a process, {args.touched:,} entries touched"
        print(f"{what:44}{before:8.1f} MB, then {after:.1f} MB: {growth:+.1f} %")


if __name__ == "__main__":
    with ending_well("measures again"):
        main()
