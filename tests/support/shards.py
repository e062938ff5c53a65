"""ImageNet as WebDataset and as Hugging Face has it, made small from any folder with train/ and val/."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranger21.data.layout import class_folders
from support.archives import add, training_images, validation_images

Maker = Callable[[Path, Path], None]


def webdataset(root: Path, target: Path) -> None:
    """Two shards of training images and one of validation images, as timm/imagenet-1k-wds has them."""
    train = [(path.name, path.parent.name, path.read_bytes()) for path in training_images(root)]
    shards = {
        "imagenet1k-train-0000.tar": train[::2],
        "imagenet1k-train-0001.tar": train[1::2],
        "imagenet1k-validation-00.tar": validation_images(root),
    }
    wnids = class_folders(root / "train")
    target.mkdir(parents=True)
    for file, images in shards.items():
        with tarfile.open(target / file, "w") as tar:
            for name, wnid, data in images:
                facts = {"filename": name, "label": wnids.index(wnid)}
                add(tar, f"{name[:-5]}.cls", str(wnids.index(wnid)).encode())
                add(tar, f"{name[:-5]}.jpg", data)
                add(tar, f"{name[:-5]}.json", json.dumps(facts).encode())
    splits = {
        split: {
            "filenames": [file for file in shards if split in file],
            "shard_lengths": [len(images) for file, images in shards.items() if split in file],
        }
        for split in ("train", "validation")
    }
    (target / "_info.json").write_text(json.dumps({"name": "imagenet1k", "splits": splits}))


def webdataset_of_folders(root: Path, target: Path) -> None:
    """Shards with a folder per class and numbers as keys in the facts, and without a list of the shards."""
    webdataset(root, target)
    (target / "_info.json").unlink()
    for file in target.glob("*.tar"):
        with tarfile.open(file) as tar:
            members = [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]
        with tarfile.open(file, "w") as tar:
            for number, (name, data) in enumerate(members):
                folder = "n" if "val" in file.name else name.partition("_")[0]
                key = f"{number // 3:09d}" if "val" in file.name else name.partition(".")[0]
                add(tar, f"{folder}/{key}.{name.partition('.')[2]}", data)


def webdataset_in_splits(root: Path, target: Path) -> None:
    """The same shards in a folder for each split, with numbers as names, and without a list of them."""
    webdataset(root, target)
    (target / "_info.json").unlink()
    for name, split in (("train-0000", "train"), ("train-0001", "train"), ("validation-00", "validation")):
        (target / split).mkdir(exist_ok=True)
        (target / f"imagenet1k-{name}.tar").rename(target / split / f"{name.rpartition('-')[2]}.tar")


def hub_archives(root: Path, target: Path) -> None:
    """Hugging Face's archives, of which the last have few images or none of some classes."""
    target.mkdir(parents=True)
    train = [(path.name, path.parent.name, path.read_bytes()) for path in training_images(root)]
    archives = {f"train_images_{number}": train[number::5] for number in range(5)}
    for archive, images in (archives | {"val_images": validation_images(root)}).items():
        with tarfile.open(target / f"{archive}.tar.gz", "w:gz") as tar:
            for name, wnid, data in images:
                add(tar, f"{name[:-5]}_{wnid}.JPEG", data)
    with tarfile.open(target / "test_images.tar.gz", "w:gz") as tar:
        add(tar, "ILSVRC2012_test_00000001.JPEG", b"a test image")


def table(rows: list[tuple[str, str, bytes]], wnids: list[str], classes: list[str], named: bool) -> Any:
    """Return Hugging Face's table of images (name, wnid, content), with the names of the classes in its schema."""
    import pyarrow

    names = {"info": {"features": {"label": {"names": classes, "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    metadata = {"huggingface": json.dumps(names)}
    schema = pyarrow.schema([("image", image), ("label", pyarrow.int64())], metadata=metadata)
    cells = [
        {"image": {"bytes": data, "path": name if named else None}, "label": wnids.index(wnid)}
        for name, wnid, data in rows
    ]
    return pyarrow.Table.from_pylist(cells, schema)


def tables(template: str, named: bool = True, classes: list[str] | None = None) -> Maker:
    """Return a maker of two tables of training and one of validation images, with file names by the template."""

    def make(root: Path, target: Path) -> None:
        from pyarrow import RecordBatchStreamWriter, parquet

        train = [(path.name, path.parent.name, path.read_bytes()) for path in training_images(root)]
        files = {("train", 0, 2): train[::2], ("train", 1, 2): train[1::2]}
        for (split, number, total), rows in (files | {("validation", 0, 1): validation_images(root)}).items():
            file = target / template.format(split=split, number=number, total=total)
            file.parent.mkdir(parents=True, exist_ok=True)
            wnids = class_folders(root / "train")
            content = table(rows, wnids, classes or wnids, named)
            if file.suffix == ".parquet":
                parquet.write_table(content, file, row_group_size=2)
            else:
                with RecordBatchStreamWriter(file, content.schema) as writer:
                    writer.write_table(content, max_chunksize=2)
                state = {"_data_files": [{"filename": path.name} for path in sorted(file.parent.glob("*.arrow"))]}
                (file.parent / "state.json").write_text(json.dumps(state))

    return make


def hub_cache(root: Path, target: Path) -> None:
    """The hub's cache: the files of a version are links to others, named by their content."""
    place = target / "datasets--ILSVRC--imagenet-1k"
    tables("data/{split}-{number:05d}-of-{total:05d}.parquet")(root, place / "blobs")
    for commit in ("0" * 40, "1" * 40):
        (place / "snapshots" / commit / "data").mkdir(parents=True)
    for file in (place / "blobs" / "data").iterdir():
        (place / "snapshots" / ("1" * 40) / "data" / file.name).symlink_to(f"../../../blobs/data/{file.name}")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("1" * 40)
