"""The forms in which people download ImageNet, made small from any folder with train/ and val/."""

import json
import shutil
import tarfile
import zipfile
from pathlib import Path

from ranger21.data.layout import class_folders
from ranger21.downloads.devkit import DEVKIT
from ranger21.downloads.labels import ANNOTATIONS, CSV
from ranger21.downloads.official import VAL
from support.archives import add, class_archive, make_devkit, validation_images
from support.shards import (
    Maker,
    hub_archives,
    hub_cache,
    tables,
    webdataset,
    webdataset_in_splits,
    webdataset_of_folders,
)


def copy_train(root: Path, target: Path) -> None:
    shutil.copytree(root / "train", target / "train")


def flat_val(root: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, _, data in validation_images(root):
        (folder / name).write_bytes(data)


def write_csv(root: Path, folder: Path) -> None:
    rows = [f"{name[:-5]},{wnid} 1 2 3 4 {wnid} 5 6 7 8 " for name, wnid, _ in validation_images(root)]
    (folder / CSV).write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]) + "\n")


def write_annotations(root: Path, folder: Path) -> None:
    (folder / ANNOTATIONS).mkdir(parents=True)
    for name, wnid, _ in validation_images(root):
        parts = f"<object>\n\t\t<name>{wnid}</name>\n\t\t<pose>Unspecified</pose>\n\t</object>"
        text = f"<annotation>\n\t<filename>{name[:-5]}</filename>\n\t{parts}\n</annotation>\n"
        (folder / ANNOTATIONS / f"{name[:-5]}.xml").write_text(text)


def write_devkit(root: Path, folder: Path, unpacked: bool = False) -> None:
    make_devkit(folder, class_folders(root / "train"), [wnid for _, wnid, _ in validation_images(root)])
    if unpacked:
        with tarfile.open(folder / DEVKIT) as tar:
            tar.extractall(folder, filter="data")
        (folder / DEVKIT).unlink()


def kaggle(root: Path, target: Path) -> None:
    data = target / "ILSVRC" / "Data" / "CLS-LOC"
    copy_train(root, data)
    flat_val(root, data / "val")
    (data / "test").mkdir()
    (data / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"a test image")
    write_csv(root, target)
    lists = target / "ILSVRC" / "ImageSets" / "CLS-LOC"
    lists.mkdir(parents=True)
    images = sorted(path for path in (root / "train").rglob("*.JPEG"))
    lines = [f"{path.parent.name}/{path.stem} {number}" for number, path in enumerate(images, start=1)]
    (lists / "train_cls.txt").write_text("\n".join(lines) + "\n")


def kaggle_annotations(root: Path, target: Path) -> None:
    kaggle(root, target)
    (target / CSV).unlink()
    write_annotations(root, target / "ILSVRC")


def zip_of(maker: Maker, method: int) -> Maker:
    def make(root: Path, target: Path) -> None:
        maker(root, target)
        with zipfile.ZipFile(target / "imagenet-object-localization-challenge.zip", "w", method) as archive:
            for path in sorted(path for path in target.rglob("*") if path.suffix != ".zip"):
                archive.write(path, path.relative_to(target))
        for path in target.iterdir():
            if path.suffix != ".zip":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return make


def flat(write_labels: Maker) -> Maker:
    def make(root: Path, target: Path) -> None:
        copy_train(root, target)
        flat_val(root, target / "val")
        write_labels(root, target)

    return make


def validation_folder(root: Path, target: Path) -> None:
    copy_train(root, target)
    for name, wnid, data in validation_images(root):
        (target / "validation" / wnid).mkdir(parents=True, exist_ok=True)
        (target / "validation" / wnid / name).write_bytes(data)


def class_archives(root: Path, target: Path) -> None:
    """Archives made by `tar -cf n01440764.tar n01440764`, and the official archive of validation images."""
    (target / "train").mkdir(parents=True)
    for wnid in class_folders(root / "train"):
        with tarfile.open(target / "train" / f"{wnid}.tar", "w") as tar:
            tar.add(root / "train" / wnid, wnid)
    with tarfile.open(target / VAL, "w") as tar:
        for name, _, data in validation_images(root):
            add(tar, name, data)
    write_devkit(root, target)


def class_archives_of_both(root: Path, target: Path) -> None:
    validation_folder(root, target)
    for place in (*(target / "train").iterdir(), *(target / "validation").iterdir()):
        place.with_suffix(".tar").write_bytes(class_archive(place))
        shutil.rmtree(place)


def tiny(root: Path, target: Path) -> None:
    """Tiny-ImageNet-200, but with ImageNet's names of the validation images."""
    folder = target / "tiny-imagenet-200"
    lines = []
    for wnid in class_folders(root / "train"):
        shutil.copytree(root / "train" / wnid, folder / "train" / wnid / "images")
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t10\t63\t58\n")
    (folder / "val" / "images").mkdir(parents=True)
    for name, wnid, data in validation_images(root):
        (folder / "val" / "images" / name).write_bytes(data)
        lines.append(f"{name}\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(reversed(class_folders(root / "train"))) + "\n")
    (folder / "test" / "images").mkdir(parents=True)


def hundred(root: Path, target: Path) -> None:
    """Kaggle's ImageNet-100, whose classes are divided among several folders."""
    wnids = class_folders(root / "train")
    for number, wnid in enumerate(wnids):
        shutil.copytree(root / "train" / wnid, target / f"train.X{1 + number % 2}" / wnid)
        (target / "val.X" / wnid).mkdir(parents=True)
    for name, wnid, data in validation_images(root):
        (target / "val.X" / wnid / name).write_bytes(data)
    (target / "Labels.json").write_text(json.dumps(dict.fromkeys(wnids, "a name, another")))


ARROW = "Hugging Face's Arrow files: 2 + 1 files, labels from the names of the images, or the column label"
# The form's name: how it is made, and a part of the sentence that says what was recognized.
DOWNLOADS: dict[str, tuple[Maker, str]] = {
    "kaggle": (kaggle, f"has Kaggle's layout: 9 + 3 images, labels from {CSV}"),
    "kaggle_annotations": (kaggle_annotations, "layout: 9 + 3 images, labels from Annotations/CLS-LOC/val"),
    "kaggle_zip": (zip_of(kaggle, zipfile.ZIP_DEFLATED), f"challenge.zip: 9 + 3 images, labels from {CSV}"),
    "kaggle_zip_stored": (
        zip_of(kaggle_annotations, zipfile.ZIP_STORED),
        "challenge.zip: 9 + 3 images, labels from Annotations/CLS-LOC/val",
    ),
    "flat_devkit": (flat(write_devkit), f"has sorted train/ and flat val/: 9 + 3 images, labels from {DEVKIT}"),
    "flat_unpacked_devkit": (
        flat(lambda root, target: write_devkit(root, target, unpacked=True)),
        "9 + 3 images, labels from ILSVRC2012_validation_ground_truth.txt",
    ),
    "flat_csv": (flat(write_csv), f"has sorted train/ and flat val/: 9 + 3 images, labels from {CSV}"),
    "flat_annotations": (flat(write_annotations), "9 + 3 images, labels from Annotations/CLS-LOC/val"),
    "validation": (validation_folder, "has sorted train/ and sorted validation/: 9 + 3 images, labels from the names"),
    "class_archives": (class_archives, f"3 archives of + 3 images, labels from {DEVKIT}"),
    "class_archives_of_both": (class_archives_of_both, "labels from the names of the archives"),
    "webdataset": (webdataset, "has the WebDataset layout: 9 + 3 images in 2 + 1 archives, labels from .cls, whose"),
    "webdataset_of_folders": (webdataset_of_folders, "WebDataset layout: 2 + 1 archives, labels from .cls, whose"),
    "webdataset_in_splits": (webdataset_in_splits, "WebDataset layout: 2 + 1 archives, labels from .cls, whose"),
    "parquet_hash": (
        tables("data/{split}-{number:05d}-of-{total:05d}-0123456789abcdef.parquet"),
        "Hugging Face's parquet files: 9 + 3 images in 2 + 1 files, labels from the names of the images and",
    ),
    "hub_cache": (hub_cache, "parquet files: 9 + 3 images in 2 + 1 files, labels from the names of the images and"),
    "arrow_saved": (tables("{split}/data-{number:05d}-of-{total:05d}.arrow"), ARROW),
    "arrow_cached": (tables("imagenet-1k-{split}-{number:05d}-of-{total:05d}.arrow"), ARROW),
    "hub_archives": (hub_archives, "5 + 1 compressed archives, labels from the names of the images"),
    "tiny": (tiny, "has Tiny-ImageNet's layout: 9 + 3 images of 3 classes, labels from val_annotations.txt"),
    "hundred": (hundred, "has ImageNet-100's layout: 9 + 3 images in train.X1, train.X2 and val.X, labels from the"),
}  # fmt: skip
# Forms in which the images have no names.
NAMELESS: dict[str, Maker] = {
    "parquet_converted": tables("default/{split}/{number:04d}.parquet", named=False),
    "unknown_classes": tables("{split}/{number:04d}.parquet", named=False, classes=["cat", "dog", "cow"]),
    "arrow_nameless": tables("{split}/data-{number:05d}-of-{total:05d}.arrow", named=False),
}
