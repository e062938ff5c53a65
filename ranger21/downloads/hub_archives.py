"""Hugging Face's older form of imagenet-1k: train_images_0.tar.gz, …, val_images.tar.gz. Imports no torch."""

import re
from pathlib import Path

from ranger21.downloads.parts import Download
from ranger21.downloads.tars import NamedArchive
from ranger21.system.errors import UserError

TRAIN, VAL = "train_images_{}.tar.gz", "val_images.tar.gz"
ARCHIVES = 5  # of training images
PATTERN = r"(?:\./)?(?:\w[\w.-]*/)*(\w+_n\d{8})\.JPEG"  # group: the name with the wnid, as in n01440764_10026_n01440764


def place_of(name: str) -> str:
    """Return the place CLASS/NAME of an image with the wnid at the end of its name."""
    stem, _, wnid = name.rpartition("_")
    return f"{wnid}/{stem}.JPEG"


def find(source: Path) -> Download | None:
    """Return the archives in a folder or its subfolder data/, or None; raise a UserError if some are missing."""
    for folder in (source, source / "data"):
        there = {file.name: file for file in folder.glob("*.tar.gz")}
        if not any(re.fullmatch(r"train_images_\d+\.tar\.gz|val_images\.tar\.gz", name) for name in there):
            continue
        wanted = [*map(TRAIN.format, range(ARCHIVES)), VAL]
        if lacking := [name for name in wanted if name not in there]:
            raise UserError(f"{folder} lacks {' and '.join(lacking)}. Download it as well.")
        parts = [NamedArchive(there[name], "val" if name == VAL else "train", place_of, PATTERN) for name in wanted]
        contents = f"{ARCHIVES} + 1 compressed archives"
        return Download("Hugging Face's older form of imagenet-1k", contents, "the names of the images", parts)
    return None
