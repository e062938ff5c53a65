"""Small archives and parquet files in ImageNet's exact layout, made from any folder with train/ and val/."""

import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranger21.data.layout import class_folders
from ranger21.downloads.devkit import DEVKIT, META, TRUTH
from ranger21.downloads.official import TRAIN, VAL
from ranger21.downloads.prepare import prepare
from ranger21.system.errors import UserError
from support.project import ROOT


def need_readers(*packages: str) -> None:
    """Skip a module's tests without the packages that read the archives."""
    for package in packages:
        pytest.importorskip(package, reason="needs the packages that read the archives: pip install -e '.[prepare]'")


def prepared_tree(root: Path) -> dict[str, bytes]:
    """Return the expected files by path: train/ unchanged, the validation images under ImageNet's names."""
    train = {f"train/{path.parent.name}/{path.name}": path.read_bytes() for path in training_images(root)}
    return train | {f"val/{wnid}/{name}": data for name, wnid, data in validation_images(root)}


def make_few(images: Path, folder: Path, classes: int) -> Path:
    """Copy some classes, with three training images and one validation image each, and archive the copies."""
    for split, count in (("train", 3), ("val", 1)):
        for wnid in sorted(os.listdir(images / split))[:classes]:
            (folder / split / wnid).mkdir(parents=True)
            for path in sorted((images / split / wnid).iterdir())[:count]:
                shutil.copy(path, folder / split / wnid)
    make_archives(folder, folder / "official")
    make_parquet(folder, folder / "parquet", files=2)
    return folder


def training_images(root: Path) -> list[Path]:
    return [path for wnid in class_folders(root / "train") for path in sorted((root / "train" / wnid).iterdir())]


def validation_images(root: Path) -> list[tuple[str, str, bytes]]:
    """Return (name, wnid, content) of each validation image; as in ImageNet, the names are not sorted by class."""
    paths = [path for wnid in class_folders(root / "val") for path in sorted((root / "val" / wnid).iterdir())]
    random.Random(0).shuffle(paths)
    return [
        (f"ILSVRC2012_val_{number:08d}.JPEG", path.parent.name, path.read_bytes())
        for number, path in enumerate(paths, start=1)
    ]


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def class_archive(folder: Path) -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as tar:
        for path in sorted(folder.iterdir()):
            add(tar, path.name, path.read_bytes())
    return buffer.getvalue()


def devkit_meta(wnids: list[str]) -> bytes:
    """Return a meta.mat whose class numbers are not in the order of the wnids, with two synsets above the classes."""
    from scipy.io import savemat

    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    synsets = np.zeros((len(wnids) + 2, 1), [(name, object) for name in (*fields, "num_train_images")])
    for number, wnid in enumerate(reversed(wnids), start=1):
        synsets[number - 1, 0] = (float(number), wnid, "words", "gloss", 0.0, np.zeros((0,)), 0.0, 1300.0)
    above = np.arange(1.0, len(wnids) + 1)
    for number, wnid in ((len(wnids) + 1, "n00001740"), (len(wnids) + 2, "n00001930")):
        synsets[number - 1, 0] = (float(number), wnid, "entity", "gloss", float(len(above)), above, 1.0, 0.0)
    savemat(buffer := io.BytesIO(), {"synsets": synsets}, do_compression=True)
    return buffer.getvalue()


def make_devkit(target: Path, wnids: list[str], classes: list[str]) -> None:
    """Write the development kit, which lists the class of each validation image."""
    numbers = {wnid: number for number, wnid in enumerate(reversed(wnids), start=1)}
    with tarfile.open(target / DEVKIT, "w:gz") as tar:
        add(tar, TRUTH, "".join(f"{numbers[wnid]}\n" for wnid in classes).encode())
        add(tar, META, devkit_meta(wnids))


def make_archives(root: Path, target: Path) -> None:
    """Write the three official archives."""
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target / TRAIN, "w") as tar:
        for wnid in class_folders(root / "train"):
            add(tar, f"{wnid}.tar", class_archive(root / "train" / wnid))
    images = validation_images(root)
    with tarfile.open(target / VAL, "w") as tar:
        for name, _, data in images:
            add(tar, name, data)
    make_devkit(target, class_folders(root / "train"), [wnid for _, wnid, _ in images])


def make_parquet(root: Path, target: Path, files: int = 3) -> None:
    """Write Hugging Face's imagenet-1k: `files` shuffled files per split in data/, and one file of test images."""
    (target / "data").mkdir(parents=True, exist_ok=True)
    wnids = class_folders(root / "train")
    train = [(path.name, path.parent.name, path.read_bytes()) for path in training_images(root)]
    random.Random(0).shuffle(train)
    for split, images in (("train", train), ("validation", validation_images(root))):
        for number in range(files):
            rows = [
                {"image": {"bytes": data, "path": f"{Path(name).stem}_{wnid}.JPEG"}, "label": wnids.index(wnid)}
                for name, wnid, data in images[number::files]
            ]
            write_parquet(target / "data" / f"{split}-{number:05d}-of-{files:05d}.parquet", rows)
    rows = [{"image": {"bytes": b"", "path": "ILSVRC2012_test_00000001.JPEG"}, "label": -1}]
    write_parquet(target / "data" / "test-00000-of-00001.parquet", rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", image), ("label", pyarrow.int64())])
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path, row_group_size=5)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def prepare_arguments(*args: str | Path, path: str = "") -> dict[str, Any]:
    """Return arguments for subprocess: the command without checksums, as the archives are not the official ones."""
    return {
        "args": [sys.executable, str(ROOT / "scripts" / "prepare_imagenet.py"), *map(str, args), "--no-checksums"],
        "env": os.environ | {"PYTHONPATH": path},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


def prepare_by_command(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run prepare_imagenet.py without checksums."""
    path = options.pop("path", "")
    return subprocess.run(**prepare_arguments(*args, path=path), timeout=60, **options)


def refusal_of_prepare(source: Path, target: Path, published: dict[str, str] | None = None) -> str:
    """Call `prepare`, which must raise a UserError; return its message."""
    with pytest.raises(UserError) as caught:
        prepare(source, target, 1, published)
    assert str(caught.value).endswith((".", "'"))
    return str(caught.value)
