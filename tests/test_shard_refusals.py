"""prepare_imagenet.py refuses WebDataset's and Hugging Face's files that are incomplete, wrong or hostile."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.archives import make_few, need_readers
from support.download_harms import Harm, Members, cut, removed, repacked, require_refusal

need_readers("pyarrow")

SHARD, VAL_SHARD = "imagenet1k-train-0001.tar", "imagenet1k-validation-00.tar"
HUB = "train_images_0.tar.gz"


@pytest.fixture(scope="module")
def few(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with three + one images each, as folders."""
    return make_few(images, tmp_path_factory.mktemp("few"), 3)


def with_labels(place: str, label: bytes) -> Harm:
    return repacked(place, lambda members: [(n, label if n.endswith(".cls") else data) for n, data in members])


def named(place: str, old: str, new: str) -> Harm:
    return repacked(place, lambda members: [(name.replace(old, new), data) for name, data in members])


def without_images(members: Members) -> Members:
    return [(name, data) for name, data in members if not name.endswith(".jpg")]


def without_names(members: Members) -> Members:
    return [(f"s{name}", data) for name, data in members if not name.endswith(".json")]


REFUSED: dict[str, tuple[str, Harm, str]] = {
    "a listed shard is missing": ("webdataset", removed(SHARD), f"$SOURCE lacks 1 archive, such as {SHARD}. Download"),
    "a shard before the last is missing": (
        "webdataset_of_folders",
        removed("imagenet1k-train-0000.tar"),
        f"lacks imagenet1k-train-0000.tar, but has {SHARD}. Download it as well.",
    ),
    "no validation shards": ("webdataset", removed(VAL_SHARD), "$SOURCE has no files validation-*. Download"),
    "two datasets": (
        "webdataset",
        lambda source: (source / "tiny-train-0001.tar").write_bytes((source / SHARD).read_bytes()),
        f"has {SHARD} and tiny-train-0001.tar. Keep the files of one dataset.",
    ),
    "a label with two classes": ("webdataset", with_labels(SHARD, b"0"), "the label 0 means n9900000"),
    "a label without a class": ("webdataset", with_labels(VAL_SHARD, b"7"), "has the label 7, which has no class"),
    "a label that is not a number": ("webdataset", with_labels(VAL_SHARD, b"-1"), "has the label -1"),
    "a label that is a text": ("webdataset", with_labels(VAL_SHARD, b"cat"), "invalid literal for int()"),
    "names without wnids": ("webdataset", repacked(SHARD, without_names), "which gives no wnid, so its class is not"),
    "samples without images": (
        "webdataset",
        repacked(VAL_SHARD, without_images),
        "ILSVRC2012_val_00000001 has no image",
    ),
    "a path in a shard": ("webdataset", named(SHARD, "n99", "../n99"), "has the unexpected member '../n99000"),
    "an absolute path in a shard": ("webdataset", named(SHARD, "n99", "/n99"), "has the unexpected member '/n99000"),
    "an incomplete shard": ("webdataset", cut(VAL_SHARD, 11_000), f"$SOURCE/{VAL_SHARD} is damaged or truncated ("),
    "an archive of five is missing": (
        "hub_archives",
        removed("train_images_3.tar.gz"),
        "lacks train_images_3.tar.gz. Download it as well",
    ),
    "an incomplete compressed archive": ("hub_archives", cut(HUB), f"$SOURCE/{HUB} is damaged or truncated ("),
    "an archive that expands": (
        "hub_archives",
        repacked(HUB, lambda members: [(members[0][0], bytes(1 << 23))]),
        "its images are far larger than the file",
    ),
    "a path in a compressed archive": ("hub_archives", named(HUB, "n99000000_", "../../"), "has the unexpected member"),
    "no class in a name": ("hub_archives", named(HUB, "_n99000000.", "."), "has the unexpected member"),
}


def with_rows(place: str, **changes: Any) -> Harm:
    """Return a function that changes columns of a table, each by a function of its list of values."""

    def harm(source: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        content = parquet.read_table(source / place)
        for name, change in changes.items():
            column = pyarrow.array(change(content.column(name).to_pylist()), content.schema.field(name).type)
            content = content.set_column(content.schema.get_field_index(name), content.schema.field(name), column)
        parquet.write_table(content, source / place)

    return harm


def renamed(path: str) -> Callable[[list[Any]], list[Any]]:
    return lambda images: [image | {"path": path} for image in images]


def threes(labels: list[Any]) -> list[Any]:
    return [3] * len(labels)


def without_last_batch(source: Path) -> None:
    """Cut an Arrow file between two batches, where pyarrow notices nothing."""
    import pyarrow

    file = source / ARROW
    batches = list(pyarrow.ipc.open_stream(file.read_bytes()))
    sink = pyarrow.BufferOutputStream()
    with pyarrow.RecordBatchStreamWriter(sink, batches[0].schema) as writer:
        writer.write_batch(batches[0])
    file.write_bytes(sink.getvalue().to_pybytes()[:-8])


def single_split(source: Path) -> None:
    shutil.copytree(source / "train", source, dirs_exist_ok=True)
    removed("train", "validation")(source)


PARQUET = "data/train-00000-of-00002-0123456789abcdef.parquet"
ARROW = "train/data-00001-of-00002.arrow"
REFUSED |= {
    "a label that disagrees with the name": (
        "parquet_hash",
        with_rows(PARQUET, label=lambda labels: [2] * len(labels)),
        "with the label 2, which mean n99000000 and n99000002. Download the file again",
    ),
    "no label": (
        "parquet_hash",
        with_rows(PARQUET, label=threes, image=renamed("x.JPEG")),
        "whose class is not certain: the file lists 3 class",
    ),
    "a path": ("parquet_hash", with_rows(PARQUET, image=renamed("../n99000000_1.JPEG")), "which is not of the form"),
    "a hidden name": (
        "parquet_hash",
        with_rows(PARQUET, image=renamed(".n99000000_1.JPEG")),
        "which is not of the form",
    ),
    "one name for several images": (
        "parquet_hash",
        with_rows(PARQUET, image=renamed("same.JPEG")),
        "SOURCE has 9 images for train/, but only 7 different names for them",
    ),
    "other classes": (
        "unknown_classes",
        lambda source: None,
        "whose class is not certain: the names of its classes (cat, dog, cow) are neither wnids nor ImageNet's own",
    ),
    "a missing file of a hashed name": (
        "parquet_hash",
        removed(PARQUET),
        "lacks train-00000-of-00002.parquet, but",
    ),
    "a part of a dataset": (
        "parquet_hash",
        lambda source: shutil.copytree(source / "data", source / "partial-train"),
        "has Hugging Face's conversion of the first part of a larger dataset",
    ),
    "an Arrow file without its last batch": ("arrow_saved", without_last_batch, "truncated (it has no end marker)"),
    "an incomplete Arrow file": ("arrow_saved", cut(ARROW, 5000), f"$SOURCE/{ARROW} is damaged or truncated ("),
    "a missing Arrow file": ("arrow_saved", removed(ARROW), "train lacks data-00001-of-00002.arrow. Copy or download"),
    "one split": (
        "arrow_saved",
        single_split,
        "$SOURCE is a single split of a dataset. Give the folder that contains the folders train and validation",
    ),
    "several versions": ("hub_cache", removed("datasets--ILSVRC--imagenet-1k/refs"), "has several versions, such as"),
    "several datasets": (
        "hub_cache",
        lambda source: (source / "datasets--a--b" / "snapshots").mkdir(parents=True),
        "has several datasets: datasets--ILSVRC--imagenet-1k, datasets--a--b. Give one of these folders as SOURCE.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_download_is_refused(kind, few, tmp_path):
    require_refusal(few, tmp_path, *REFUSED[kind])
