"""prepare_imagenet.py refuses downloads that are incomplete, wrong or hostile, and says what it saw and what to do."""

import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.archives import make_few, need_readers
from support.download_harms import Harm, changed, cut, removed, require_refusal

from ranger21.downloads.devkit import DEVKIT, META
from ranger21.downloads.labels import ANNOTATIONS, CSV

need_readers("scipy")

ZIP = "imagenet-object-localization-challenge.zip"
DATA = "ILSVRC/Data/CLS-LOC"
FIRST, LAST = "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000003.JPEG"


@pytest.fixture(scope="module")
def few(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with three + one images each, as folders."""
    return make_few(images, tmp_path_factory.mktemp("few"), 3)


def zip_with(name: str, mode: int = stat.S_IFREG) -> Harm:
    def harm(source: Path) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = (mode | 0o644) << 16
        with zipfile.ZipFile(source / ZIP, "a") as archive:
            archive.writestr(info, b"/etc/passwd")

    return harm


def spoilt_zip(source: Path) -> None:
    """Flip a byte inside an image, which its checksum shows."""
    with zipfile.ZipFile(source / ZIP) as archive:
        info = archive.getinfo(f"{DATA}/val/{FIRST}")
    data = bytearray((source / ZIP).read_bytes())
    data[info.header_offset + info.compress_size // 2] ^= 1
    (source / ZIP).write_bytes(data)


def tar_with(name: str) -> Harm:
    def harm(source: Path) -> None:
        with tarfile.open(source / "train" / "n99000000.tar", "a") as tar:
            tar.addfile(tarfile.TarInfo(name))

    return harm


def another_class(source: Path) -> None:
    (source / "train" / "n99000000").rename(source / "train" / "n99000009")


def only(name: str) -> Harm:
    def harm(source: Path) -> None:
        shutil.rmtree(source)
        (source / name).parent.mkdir(parents=True)
        (source / name).touch()

    return harm


TINY = "tiny-imagenet-200"
TENSORFLOW = (
    "has TFRecord files, such as imagenet2012-train.tfrecord-00000-of-01024, which TensorFlow Datasets wrote from"
)
MISSING = (
    f"has 2 validation images, but $SOURCE/{CSV} has the classes of the images 1 to 3: 1 are missing, such as {LAST}"
)
REFUSED: dict[str, tuple[str, Harm, str]] = {
    "no labels": ("flat_csv", removed(CSV), f"They are not sorted by class. Put {DEVKIT} (from https://image-net.org)"),
    "a missing validation image": ("kaggle", removed(f"{DATA}/val/{LAST}"), MISSING),
    "a missing training image": (
        "kaggle",
        lambda source: next((source / DATA / "train" / "n99000001").iterdir()).unlink(),
        "lacks 1 training image, such as n99000001/n99000001_",
    ),
    "no validation images": ("flat_csv", removed("val"), "has train/, but neither val/ nor ILSVRC2012_img_val.tar"),
    "an empty class": (
        "flat_csv",
        lambda source: shutil.rmtree(source / "train/n99000001") or (source / "train/n99000001").mkdir(),
        "has class folders without images: n99000001",
    ),
    "an empty val": (
        "flat_csv",
        lambda source: shutil.rmtree(source / "val") or (source / "val").mkdir(),
        "contains nothing",
    ),
    "a class without training images": (
        "flat_csv",
        removed("train/n99000001"),
        "The class n99000001 has validation images",
    ),
    "another class": ("flat_devkit", another_class, "The class n99000000 has validation images but no training images"),
    "a list of other images": (
        "flat_csv",
        changed(CSV, "val_00000003", "val_00000004"),
        f"1 are missing, such as {FIRST[:-6]}4",
    ),
    "two classes for an image": (
        "flat_csv",
        changed(CSV, " 4 n99000000", " 4 n99000001"),
        "n99000000 and n99000001, not a single",
    ),
    "an image listed twice": ("flat_csv", changed(CSV, "val_00000003", "val_00000002"), "00000002 is listed twice"),
    "no table": ("flat_csv", changed(CSV, "ImageId", "Id"), "its first line is not ImageId,PredictionString"),
    "a class that is a path": (
        "flat_csv",
        changed(CSV, "n99000000", "../../../x"),
        "has the class ../../../x, not a single wnid",
    ),
    "an annotation without class": (
        "kaggle_annotations",
        changed(f"ILSVRC/{ANNOTATIONS}/{FIRST[:-5]}.xml", "<name>", "<nam>"),
        "ILSVRC2012_val_00000001 has no class",
    ),
    "a missing annotation": (
        "kaggle_annotations",
        removed(f"ILSVRC/{ANNOTATIONS}/{LAST[:-5]}.xml"),
        "the images 1 to 2, without ILSVRC2012_val_00000003",
    ),
    "no matrix of the unpacked kit": (
        "flat_unpacked_devkit",
        removed(META),
        "The classes of the images in $SOURCE/val are",
    ),
    "an incomplete zip": ("kaggle_zip", cut(ZIP), f"$SOURCE/{ZIP} is damaged or truncated ("),
    "a flipped bit in a zip": ("kaggle_zip_stored", spoilt_zip, f"{FIRST} does not have its size or checksum"),
    "a path in a zip": (
        "kaggle_zip",
        zip_with(f"{DATA}/train/n99000000/../../../../../evil.JPEG"),
        "the unexpected member",
    ),
    "a link in a zip": (
        "kaggle_zip",
        zip_with(f"{DATA}/train/n99000000/n99000000_7.JPEG", stat.S_IFLNK),
        "unexpected member",
    ),
    "a path in a class archive": ("class_archives", tar_with("n99000000/../../evil.JPEG"), "has the unexpected member"),
    "an image twice in a class archive": (
        "class_archives",
        lambda source: [tar_with(f"{folder}n99000000_9.JPEG")(source) for folder in ("", "n99000000/")],
        "has the unexpected member 'n99000000/n99000000_9.JPEG'",
    ),
    "no image in a class archive": ("class_archives", tar_with("n99000000/README"), "has the unexpected member"),
    "folders and archives of classes": (
        "class_archives",
        lambda source: (source / "train" / "n99000005").mkdir(),
        "has archives and folders of classes, such as n99000000.tar and the folder n99000005",
    ),
    "val and validation": ("validation", lambda source: (source / "val").mkdir(), "has val/ and validation/"),
    "sorted already": (
        "validation",
        lambda source: (source / "validation").rename(source / "val"),
        "so there is nothing to prepare. Use it as it is, with data.root=$SOURCE, for train.py and for pack.py",
    ),
    "Tiny-ImageNet without an image": (
        "tiny",
        removed(f"{TINY}/val/images/{LAST}"),
        f"1 validation image, such as {LAST}, which $SOURCE/{TINY}/val/val_annotations.txt lists, but it is not in",
    ),
    "Tiny-ImageNet with another image": (
        "tiny",
        lambda source: (source / TINY / "val" / "images" / "x.JPEG").write_bytes(b"x"),
        "such as x.JPEG, which $SOURCE/tiny-imagenet-200/val/val_annotations.txt does not list, but it is in",
    ),
    "Tiny-ImageNet without a class": (
        "tiny",
        removed(f"{TINY}/train/n99000001"),
        f"There are no train images of n99000001, which $SOURCE/{TINY}/wnids.txt lists",
    ),
    "Tiny-ImageNet with a path": (
        "tiny",
        changed(f"{TINY}/val/val_annotations.txt", "ILSVRC2012_val_00000002", "../../evil"),
        "line 2 is not a new file name and a wnid",
    ),
    "Tiny-ImageNet with a class that is a path": (
        "tiny",
        changed(f"{TINY}/val/val_annotations.txt", "\tn99", "\t../n99"),
        "line 1 is not a new file name and a wnid",
    ),
    "ImageNet-100 without val.X": ("hundred", removed("val.X"), "has train.X1, but not val.X. Download it as well."),
    "ImageNet-100 without a folder": (
        "hundred",
        removed("train.X2"),
        "There are no train images of n99000001, which $SOURCE/Labels.json lists.",
    ),
    "TensorFlow's records": ("tiny", only("imagenet2012/5.1.0/imagenet2012-train.tfrecord-00000-of-01024"), TENSORFLOW),
    "FFCV's file": ("tiny", only("train_400_0.50_90.beton"), "has train_400_0.50_90.beton, which only FFCV reads and"),
    "a pack": ("webdataset", lambda source: (source / "pack.json").touch(), "is a pack, which needs no preparation"),
    "another zip": (
        "kaggle_zip",
        lambda source: zipfile.ZipFile(source / ZIP, "w").close(),
        f"It contains {ZIP}. If the images are in {ZIP}, unpack it first.",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_download_is_refused(kind, few, tmp_path):
    require_refusal(few, tmp_path, *REFUSED[kind])
