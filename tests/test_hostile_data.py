"""The commands that read packs, archives, parquet files and images refuse hostile ones.

Some hostile files get the same message as damaged ones; what counts is that nothing else happens
(tests/support/hostile_files.py).
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.archives import add, make_few, write_parquet
from support.hostile_files import HostileFiles
from support.image_files import EPS, jpeg_of_many_scans, png
from support.project import ROOT
from support.training import TINY

from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.datasets.fashion_mnist import FILES
from ranger21.data.pack import FACTS, PackRecipe
from ranger21.downloads.devkit import DEVKIT, META, TRUTH
from ranger21.downloads.official import VAL
from ranger21.packing.make import make_pack

TRAIN = " ".join(f"'{override}'" for override in TINY)
Harm = Callable[[Path], object]


@pytest.fixture(scope="module")
def sound(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset without faults: image folders, archives, parquet files and a pack."""
    folder = make_few(images, tmp_path_factory.mktemp("sound"), 2)
    config = compose_config([*TINY, f"data.root={folder}"]).data
    data = build_data(config, 0)
    sources: dict[str, Any] = {"train": data.train.source, "val": data.val.source}
    make_pack(sources, config, PackRecipe(36, "squash", "raw", None, None), folder / "pack", 1)
    return folder


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **facts: Any) -> bytes:
    """Return a tar header that tarfile itself would not write."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, facts.get("linkname", "")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 4 + size.to_bytes(8, "big", signed=True) if size < 0 else b"%011o\0" % size
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    return bytes(block)


def in_front(content: bytes) -> Harm:
    return lambda source: (source / VAL).write_bytes(content + (source / VAL).read_bytes())


def devkit(change: Callable[[dict[str, bytes]], object], **links: str) -> Harm:
    def harm(source: Path) -> None:
        with tarfile.open(source / DEVKIT) as tar:
            files = {name: tar.extractfile(name).read() for name in (TRUTH, META)}  # type: ignore[union-attr]
        change(files)
        with tarfile.open(source / DEVKIT, "w:gz") as tar:
            for name, content in files.items():
                add(tar, name, content)
            for name, target in links.items():
                info = tarfile.TarInfo({"meta": META, "truth": TRUTH}[name])
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)

    return harm


def matrix_of_zeros(size: int) -> bytes:
    """Return a MATLAB file of one compressed matrix."""
    packer = zlib.compressobj(9)
    head = struct.pack("<IIIIII", 14, size, 6, 8, 6, 0)
    body = b"".join(packer.compress(bytes(1 << 24)) for _ in range(size >> 24))
    content = packer.compress(head) + body + packer.flush()
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(content)) + content


def expanding(source: Path) -> None:
    with gzip.open(source / DEVKIT, "wb", 1) as file:
        for _ in range(20):
            file.write(bytes(1 << 24))


NO_PLACE = "which was not written. Download the archive again"
ARCHIVES: dict[str, tuple[str, Harm]] = {
    "a path": (NO_PLACE, in_front(header("../../../canary", 0))),
    "an absolute path": (NO_PLACE, in_front(header("/tmp/ILSVRC2012_val_00000001.JPEG"))),
    "a link": (NO_PLACE, in_front(header("ILSVRC2012_val_00000001.JPEG", 0, tarfile.SYMTYPE, linkname="/etc/passwd"))),
    "a hard link": (NO_PLACE, in_front(header("ILSVRC2012_val_00000001.JPEG", 0, tarfile.LNKTYPE, linkname=TRUTH))),
    "a device": (NO_PLACE, in_front(header("ILSVRC2012_val_00000001.JPEG", 0, tarfile.CHRTYPE))),
    "holes": (NO_PLACE, in_front(header("ILSVRC2012_val_00000001.JPEG", 0, tarfile.GNUTYPE_SPARSE))),
    "an escape": (NO_PLACE, in_front(header("\x1b[2J\x1b]0;x\x07"))),
    "no end of itself": (NO_PLACE, in_front(header("ILSVRC2012_val_00000001.JPEG", -1024))),
    "a large image": (NO_PLACE, in_front(header("ILSVRC2012_val_00000001.JPEG", 7 << 30))),
    "a long header": ("is damaged or truncated (a part of", in_front(header("x", 7 << 30, tarfile.XHDTYPE))),
    "headers of headers": ("is damaged or truncated", in_front(header("x", 0, tarfile.XHDTYPE) * 5000)),
    "a devkit that expands": ("it expands to more than 67,108,864 bytes", expanding),
    "a matrix that expands": (
        "it would need far more memory than it should",
        devkit(lambda files: files.update({META: matrix_of_zeros(1 << 29)})),
    ),
    "links in a circle": ("is not a file", devkit(lambda files: files.pop(META), meta=META)),
    "a class that is a path": (
        "has a class '../../../x', which is not a wnid",
        devkit(lambda files: files.update({META: renamed_class("../../../x")})),
    ),
    "no matrix": ("is damaged or truncated", devkit(lambda files: files.update({META: b"\x89HDF\r\n\x1a\n" * 99}))),
}


def renamed_class(name: str) -> bytes:
    from support.archives import devkit_meta

    return devkit_meta([name, "n99000001"])


@pytest.mark.parametrize("kind", ARCHIVES)
def test_hostile_archives_are_refused(kind: str, sound: Path, hostile: HostileFiles) -> None:
    words, harm = ARCHIVES[kind]
    source = shutil.copytree(sound / "official", hostile.files / "official")
    harm(source)
    line = "prepare_imagenet.py $FILES/official $WORK/out --no-checksums --processes 1"
    hostile.refuses(line, words)


def parquet_of(rows: list[dict[str, Any]]) -> Harm:
    return lambda source: write_parquet(source / "data" / "train-00000-of-00002.parquet", rows)


def strings(source: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"image": ["text"]}), source / "data" / "train-00000-of-00002.parquet")


def repeated(size: int, times: int, dense: bool) -> Harm:
    """Return a function that writes one image `times` times, as a dictionary that holds it once."""

    def harm(source: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        one = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * times, pyarrow.int32()), [bytes(size)])
        paths = pyarrow.array([f"n99000000_{i}_n99000000.JPEG" for i in range(times)])
        table = pyarrow.table({"image": pyarrow.StructArray.from_arrays([one, paths], ["bytes", "path"])})
        file = source / "data" / "train-00000-of-00002.parquet"
        parquet.write_table(table, file, compression="zstd", store_schema=not dense)

    return harm


MUCH_MEMORY = "it would need far more memory than it should"
NO_FORM = "which is not of the form n01440764_10026_n01440764.JPEG"
PARQUET: dict[str, tuple[str, Harm]] = {
    "a path": (NO_FORM, parquet_of([{"image": {"bytes": b"x", "path": "../../canary_n99000000.JPEG"}, "label": 0}])),
    "a long name": (
        NO_FORM,
        parquet_of([{"image": {"path": "n" * 300 + "_n99000000.JPEG"}, "label": 0}]),
    ),
    "strings": ("is damaged or truncated", strings),
    "one image again and again": ("its images are far larger than the file", repeated(1 << 20, 100, False)),
    "one image that is read again and again": (MUCH_MEMORY, repeated(1 << 22, 1000, True)),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_hostile_parquet_files_are_refused(kind: str, sound: Path, hostile: HostileFiles) -> None:
    words, harm = PARQUET[kind]
    harm(shutil.copytree(sound / "parquet", hostile.files / "parquet"))
    line = "prepare_imagenet.py $FILES/parquet $WORK/out --processes 1"
    hostile.refuses(line, words, writes=("work/out",) if "again" in kind else ())


def facts_with(**changes: Any) -> Harm:
    return lambda pack: (pack / FACTS).write_text(json.dumps(json.loads((pack / FACTS).read_text()) | changes))


def shard_named(name: Any) -> Harm:
    shard = {"file": name, "bytes": 0, "sha256": "0" * 64}
    return facts_with(splits={"train": [shard], "val": [shard]})


def index_with(compressed: bool = False, **changes: Any) -> Harm:
    def harm(pack: Path) -> None:
        with np.load(pack / "train.npz") as arrays:
            whole = dict(arrays)
        changed = {name: change(whole[name]) for name, change in changes.items()}
        (np.savez_compressed if compressed else np.savez)(pack / "train.npz", **whole | changed)

    return harm


def of_no_size(pack: Path) -> None:
    """Replace the sizes by an array of 10 ** 12 elements of zero bytes each."""
    with np.load(pack / "train.npz") as arrays:
        whole = {name: array for name, array in arrays.items() if name != "sizes"}
    np.savez(pack / "train.npz", **whole)
    with zipfile.ZipFile(pack / "train.npz", "a") as archive, archive.open("sizes.npy", "w") as file:
        facts = {"descr": "|V0", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(file, facts)  # type: ignore[arg-type]


def pipe_for(name: str) -> Harm:
    return lambda pack: ((pack / name).unlink(), os.mkfifo(pack / name))


PACKS: dict[str, tuple[str, Harm]] = {
    "a path": ("names the file '../../../canary' instead of train-00000.tar", shard_named("../../../canary")),
    "an absolute path": ("names the file '/etc/passwd' instead of train-00000.tar", shard_named("/etc/passwd")),
    "another file": ("names the file 'pack.json' instead of train-00000.tar", shard_named("pack.json")),
    "a number": ("names the file '7' instead of", shard_named(7)),
    "an escape": ("names the file '\\x1b[2J' instead of", shard_named("\x1b[2J")),
    "a nest": ("pack.json is damaged", lambda pack: (pack / FACTS).write_text('{"a":' * 100_000)),
    "infinity": ("pack.json is damaged", facts_with(splits={"train": [{"file": "train-00000.tar", "bytes": 1e999}]})),
    "a list of skipped": ("pack.json is damaged", facts_with(skipped=[1, 2])),
    "classes of paths": ("pack.json is damaged", facts_with(classes=["../a", "b"])),
    "a recipe that speaks": (
        "pack.json is damaged",
        facts_with(recipe=vars(PackRecipe(36, "\x1b[2J", "raw", None, None))),
    ),
    "terabytes of facts": ("pack.json is damaged", lambda pack: os.truncate(pack / FACTS, 1 << 40)),
    "a pipe for facts": ("is not a pack", pipe_for(FACTS)),
    "a pipe for an index": ("train.npz cannot be read (it is not a regular file)", pipe_for("train.npz")),
    "zeros": ("it is compressed, and this project", index_with(True, sizes=lambda s: np.zeros(10**7, int))),
    "elements of no size": ("it has more elements than bytes", of_no_size),
    "offsets": ("it places images beyond the end of their archives", index_with(offsets=lambda o: o + (1 << 40))),
    "negative": ("it places images beyond the end of their archives", index_with(offsets=lambda o: o - (1 << 40))),
    "lengths": (
        "it places images beyond the end of their archives",
        index_with(lengths=lambda n: np.full_like(n, 2**31 - 1)),
    ),
    "pixels": ("do not match their numbers of pixels", index_with(shapes=lambda s: s + 1)),
    "counts": ("its arrays do not match", index_with(counts=lambda c: c * 1000)),
    "paths": ("its images are not valid paths", index_with(paths=lambda p: np.frombuffer(b"../a\0" * 6, np.uint8))),
    "objects": ("train.npz cannot be read", index_with(sizes=lambda s: np.array([object()] * len(s)))),
}


@pytest.mark.parametrize("kind", PACKS)
def test_hostile_packs_are_refused(kind: str, sound: Path, hostile: HostileFiles) -> None:
    words, harm = PACKS[kind]
    harm(shutil.copytree(sound / "pack", hostile.files / "pack"))
    line = f"train.py {TRAIN} data.pack=$FILES/pack run_dir=$WORK/run"
    hostile.refuses(f"{line} data.stage=$WORK/stage" if kind == "a path" else line, words)
    if words in ("pack.json is damaged", "is not a pack") or "instead of train" in words:
        hostile.refuses("pack.py $FILES/pack --check", words)


def test_hostile_packs_are_refused_by_evaluate_and_landscape(sound: Path, hostile: HostileFiles) -> None:
    shutil.copytree(ROOT / "tests/formats/1/runs/paper/resnet10t-momentum-s0-53badd80", hostile.files / "run")
    shutil.copytree(sound / "pack", hostile.files / "pack")
    PACKS["a path"][1](hostile.files / "pack")
    drawn = ("work/out", "home")  # matplotlib writes its font cache
    for command in ("evaluate.py $FILES/run", "landscape.py $FILES/run --out $WORK/out"):
        line = f"{command} data.pack=$FILES/pack data.resize=36 data.crop=32"
        hostile.refuses(line, "instead of train-00000.tar", writes=drawn)


def test_hostile_images_are_refused(sound: Path, hostile: HostileFiles) -> None:
    """Every image of a class is hostile: the first one read ends the command, and no program is started."""
    for split in ("train", "val"):
        shutil.copytree(sound / split, hostile.files / "data" / split)
    kinds = {"EPS": EPS, "pixels": png(13_000, 13_000), "scans": jpeg_of_many_scans(5000)}
    for name, content in zip(("train/n99000000", "train/n99000001", "val/n99000000"), kinds.values(), strict=True):
        for path in (hostile.files / "data" / name).iterdir():
            path.write_bytes(content)
    for name in (".\x1b[2J", "\x1b]0;x\x07.txt", "../\x1b[2J.JPEG"):  # these would control the terminal
        (hostile.files / "data" / "train" / "n99000000" / name).write_bytes(b"")
    line = "verify_imagenet.py $FILES/data --expect none --processes 1"
    told = hostile.refuses(line, "it is not an image in a supported format").out
    assert "13000 x 13000 pixels, more than the limit of" in told and "more than 100 scans" in told
    line = "pack.py $WORK/pack data.root=$FILES/data data.resize=36 data.crop=32 --processes 1"
    cache = tuple(f"files/data/.{split}.index.npz" for split in ("train", "val"))
    hostile.refuses(line, "cannot be read (it is not an image in a supported format", writes=("work/pack", *cache))
    line = f"train.py {TRAIN} data.root=$FILES/data data.batch_size=6 run_dir=$WORK/run"
    hostile.refuses(line, "The image $FILES/data/train/", writes=("work/run", *cache))


def test_hostile_class_lists_and_fashion_mnist_files_are_refused(sound: Path, hostile: HostileFiles) -> None:
    os.mkfifo(hostile.files / "pipe")
    with open(hostile.files / "large", "wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "large"):
        line = f"train.py {TRAIN} data.root={sound} data.classes=$FILES/{name} run_dir=$WORK/run"
        hostile.refuses(line, "it is not a regular file of at most 16,777,216 bytes")
    for name in FILES:
        (hostile.files / f"{name}.gz").write_bytes(b"")
    with gzip.open(hostile.files / f"{FILES[0]}.gz", "wb", 1) as file:
        file.write(struct.pack(">I", 0x0803) + bytes(1 << 27))
    line = "train.py data=fashion_mnist data.root=$FILES model=resnet10t logger=none run_dir=$WORK/run"
    hostile.refuses(line, "it has more than 67,108,864 bytes")
