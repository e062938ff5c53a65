"""Find image folders and require their contents. Imports no torch, so that missing data is reported at once."""

import os
from collections.abc import Sequence
from pathlib import Path

from ranger21.data.names import is_hidden
from ranger21.data.subset import choose_classes
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

SPLITS = ("train", "val")


def cache_directory() -> Path:
    """Return the folder for generated and downloaded files: $XDG_CACHE_HOME/ranger21 or ~/.cache/ranger21.

    Raises:
        UserError: If XDG_CACHE_HOME is not set and the user has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ranger21"
    except RuntimeError as error:
        raise UserError("There is no home folder for cached files. Set XDG_CACHE_HOME to a folder.") from error


def class_folders(split: Path) -> list[str]:
    """Return the sorted names of the class folders of a split. A class's label is its position in this list."""
    with os.scandir(split) as entries:
        return sorted(entry.name for entry in entries if is_folder(entry) and not is_hidden(entry.name))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def require_image_folders(root: Path, wanted: int | list[str] | None) -> list[str]:
    """Return the names of the class folders to use, which train/ and val/ must both have.

    Args:
        root: Folder that contains train/ and val/.
        wanted: The setting `data.classes`: a number of classes, names, or None for all.

    Raises:
        UserError: If a split or a chosen class is missing, or if the splits differ and no classes are chosen.
    """
    hint = "Set data.root or IMAGENET_DIR to the folder that contains train/ and val/; experiment=demo needs no data."
    folders: dict[str, list[str]] = {}
    for split in SPLITS:
        if not (root / split).is_dir():
            raise UserError(f"There is no folder {root / split}. {hint}")
        folders[split] = class_folders(root / split)
        if not folders[split]:
            raise UserError(
                f"{root / split} has no class folders. Put the images into one folder per class (in ImageNet by wnid, "
                f"such as {split}/n01440764/*.JPEG)."
            )
    names = common_classes(folders["train"], folders["val"], wanted, str(root))
    if len(names) < 2:
        raise UserError(f"{root} has only one class, {names[0]}. Training needs at least two.")
    return names


def common_classes(train: Sequence[str], val: Sequence[str], wanted: int | list[str] | None, place: str) -> list[str]:
    """Return the names of the chosen classes.

    Args:
        train: Classes of the training split.
        val: Classes of the validation split.
        wanted: Number of classes, names, or None for all, in which case both splits must have the same classes.
        place: Location of the splits, for messages.

    Raises:
        UserError: If `val` lacks a chosen class, or the splits differ and none are chosen.
    """
    if wanted is not None:
        names = [train[label] for label in choose_classes(train, wanted)]
        if missing := sorted(set(names) - set(val)):
            chosen = f"data.classes={wanted}" if isinstance(wanted, int) else "data.classes"
            raise UserError(f"{chosen} selects {first_few(missing)}, which {place}/train has but {place}/val lacks.")
        return names
    only = {"train": set(train) - set(val), "val": set(val) - set(train)}
    if any(only.values()):
        parts = [
            f"{len(names)} only in {split}/ ({first_few(sorted(names))})" for split, names in only.items() if names
        ]
        text = "Make them equal, or list the classes to use in a file, one per line, and set data.classes=FILE"
        raise UserError(f"The class folders of {place}/train and {place}/val differ: {'; '.join(parts)}. {text}.")
    return list(train)


def has_image_folders(root: Path) -> bool:
    """Return whether a folder contains train/ and val/."""
    return (root / "train").is_dir() and (root / "val").is_dir()
