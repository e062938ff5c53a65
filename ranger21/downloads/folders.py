"""A folder train/, sorted by class or with an archive per class, and its validation images. Imports no torch.

The validation images may be sorted, in archives per class, in one folder, or in the official archive.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.data.names import is_hidden
from ranger21.downloads.labels import WHICH_FILE, find_labels
from ranger21.downloads.loose import (
    LeftOut,
    LooseImages,
    class_names,
    flat_parts,
    image_names,
    images_in,
    labelled,
    sorted_parts,
)
from ranger21.downloads.official import VAL, val_slices
from ranger21.downloads.parts import Download, ImagePart
from ranger21.downloads.tars import ClassArchive
from ranger21.system.errors import UserError
from ranger21.system.wording import counted, first_few

NAMES = {"train": ("train", "ILSVRC2012_img_train"), "val": ("val", "validation", "ILSVRC2012_img_val")}


@dataclass(frozen=True)
class SplitFound:
    """A split of a download: its parts, what they are, how many, and where their classes are read from."""

    parts: Sequence[ImagePart]
    form: str
    count: str
    labels: str


def find(source: Path) -> Download | None:
    """Return the images in train/ and val/ of a folder, or None if train/ is not sorted by class.

    Raises:
        UserError: If the validation images, or the file with their classes, are missing or do not match, or if the
            images are prepared already.
    """
    return splits_in(source, [source])


def splits_in(folder: Path, label_folders: Sequence[Path], layout: str = "") -> Download | None:
    """Return the images in train/ and val/ of a folder, or None if train/ is not sorted by class.

    Args:
        folder: The folder that contains train/.
        label_folders: Where to look for the classes of validation images that are not sorted.
        layout: Name of the form for messages; by default, a description.
    """
    place, odd = _existing(folder, "train"), LeftOut()
    train = place and _by_class(place, "train", odd)
    if not place or not train:
        return None
    require_train_list(place, label_folders, train.parts)
    val_place = _existing(folder, "val")
    if val_place is None and not (folder / VAL).exists():
        text = f"neither val/ nor {VAL}. Download the validation images as well"
        raise UserError(f"{folder} has {place.name}/, but {text}.")
    val_place = val_place or folder / VAL
    val = _validation(val_place, label_folders, odd)
    copied: tuple[str, ...] = ()
    if train.form == val.form == "sorted":
        if (place.name, val_place.name) == ("train", "val"):
            raise UserError(
                f"{folder} has train/ and val/ sorted by class, so there is nothing to prepare. Use it as it is, with "
                f"data.root={folder}, for train.py and for pack.py (without --from); scripts/verify_imagenet.py checks "
                "it."
            )
        copied = (f"The images are copied. To use {folder} without a copy, name its folders train/ and val/.",)
    elif isinstance(train.parts[0], LooseImages):
        copied = ("The images are copied, not linked, so SOURCE is not needed afterwards",)
    slash = "" if val_place.name == VAL else "/"
    form = layout or f"{train.form} {place.name}/ and {val.form} {val_place.name}{slash}"
    count = f"{train.count} + {val.count} images"
    return Download(form, count, val.labels, [*train.parts, *val.parts], tuple(odd.notes()), copied)


def _existing(folder: Path, split: str) -> Path | None:
    found = [folder / name for name in NAMES[split] if (folder / name).is_dir()]
    if len(found) > 1:
        raise UserError(f"{folder} has {' and '.join(place.name + '/' for place in found)}. Move all but one away.")
    return found[0] if found else None


def _by_class(folder: Path, split: str, odd: LeftOut) -> SplitFound | None:
    """Return the images of a folder that has a folder or an archive per class, or None."""
    archives = sorted(folder.glob("n" + "[0-9]" * 8 + ".tar"))
    classes = class_names(folder)
    if archives and classes:
        both = f"{archives[0].name} and the folder {classes[0]}"
        raise UserError(f"{folder} has archives and folders of classes, such as {both}. Move one kind away.")
    if archives:
        parts = [ClassArchive(file, file.stem, 0, file.stat().st_size, split) for file in archives]
        return SplitFound(parts, "archives per class in", f"{len(parts):,} archives of", "the names of the archives")
    if not classes:
        return None
    loose = sorted_parts([folder], split, odd)
    if empty := [part.folder.name for part in loose if not part.contents]:
        text = f"has class folders without images: {first_few(empty)}. Download or unpack the images again"
        raise UserError(f"{folder} {text}.")
    return SplitFound(loose, "sorted", f"{images_in(loose):,}", "the names of the folders")


def _validation(val: Path, label_folders: Sequence[Path], odd: LeftOut) -> SplitFound:
    """Return the validation images in a folder or in the official archive."""
    if val.is_dir() and (found := _by_class(val, "val", odd)):
        return found
    names = image_names(val, odd) if val.is_dir() else []
    if val.is_dir() and not names:
        there = sorted(entry.name for entry in val.iterdir() if not is_hidden(entry.name))
        text = f"It contains {first_few(there) or 'nothing'}. Download or unpack the validation images again"
        raise UserError(f"{val} has no images. {text}.")
    labels = find_labels(label_folders)
    if labels is None:
        raise UserError(f"The classes of the images in {val} are not known. {WHICH_FILE}.")
    if not names:
        slices = val_slices(val, labels)
        count = sum(len(part.contents) for part in slices)
        return SplitFound(slices, "the archive", f"{count:,}", labels.name)
    beside = (labels.file,) if labels.file.is_file() else ()
    flat = flat_parts(val, labelled(names, labels, val), "val", beside)
    return SplitFound(flat, "flat", f"{images_in(flat):,}", labels.name)


def require_train_list(train: Path, label_folders: Sequence[Path], parts: Sequence[ImagePart]) -> None:
    """Raise a UserError if train/ lacks images of Kaggle's ImageSets/CLS-LOC/train_cls.txt, where that exists."""
    for folder in label_folders:
        listed = folder / "ImageSets" / "CLS-LOC" / "train_cls.txt"
        if listed.is_file():
            loose = [part for part in parts if isinstance(part, LooseImages)]
            lacking = not_there(listed.read_text(), (place for part in loose for place, _ in part.contents))
            if lacking:
                text = f"such as {min(lacking)}.JPEG, which {listed} lists. Download or unpack the images again"
                raise UserError(f"{train} lacks {counted(len(lacking), 'training image')}, {text}.")
            return


def not_there(listed: str, places: Iterable[str]) -> set[str]:
    """Return the images of Kaggle's train_cls.txt (lines such as `n01440764/n01440764_10026 1`) that are not in places.

    Args:
        listed: Content of the file.
        places: The images, as CLASS/NAME.JPEG.
    """
    names = set(re.findall(r"^(n\d{8}/n\d{8}_\d+) \d+\s*$", listed, re.ASCII | re.MULTILINE))
    return names - {place.rpartition(".")[0] for place in places}
