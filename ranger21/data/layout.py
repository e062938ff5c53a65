"""Where data is looked for, and what must be found there. Imports no torch: a missing data set is told at once."""

import os
from collections.abc import Sequence
from pathlib import Path

from ranger21.data.names import is_hidden
from ranger21.data.subset import choose_classes
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

SPLITS = ("train", "val")


def cache_directory() -> Path:
    """Return where the project keeps what it draws or downloads: $XDG_CACHE_HOME/ranger21 or ~/.cache/ranger21.

    Raises a UserError where there is neither: for a user who has no home.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ranger21"
    except RuntimeError as error:
        raise UserError("There is no home folder to keep files in: set XDG_CACHE_HOME to a folder.") from error


def class_folders(split: Path) -> list[str]:
    """The names of the class folders of a split, sorted: a class's label is its place in this list."""
    with os.scandir(split) as entries:
        return sorted(entry.name for entry in entries if is_folder(entry) and not is_hidden(entry.name))


def is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def require_image_folders(root: Path, wanted: int | list[str] | None) -> list[str]:
    """The class folders, those chosen by `data.classes` if it is given, that train/ and val/ both have.

    Raises a UserError unless both splits are there and have the same class folders, or all that are chosen.
    """
    hint = "data.root or IMAGENET_DIR must name the folder that holds train/ and val/; experiment=demo needs no data."
    folders: dict[str, list[str]] = {}
    for split in SPLITS:
        if not (root / split).is_dir():
            raise UserError(f"There is no folder {root / split}: {hint}")
        folders[split] = class_folders(root / split)
        if not folders[split]:
            raise UserError(
                f"{root / split} has no class folders: its images must be sorted into one folder a class (for "
                f"ImageNet, by wnid, such as {split}/n01440764/*.JPEG)."
            )
    names = common_classes(folders["train"], folders["val"], wanted, str(root))
    if len(names) < 2:
        raise UserError(f"{root} has one class only, {names[0]}: there is nothing to tell apart.")
    return names


def common_classes(train: Sequence[str], val: Sequence[str], wanted: int | list[str] | None, place: str) -> list[str]:
    """The names of the classes of `train`, or of those that are wanted. Raises a UserError for one that `val` lacks.

    Args:
        wanted: how many, which, or all and no others in either split (None).
        place: where the splits are.
    """
    if wanted is not None:
        names = [train[label] for label in choose_classes(train, wanted)]
        if missing := sorted(set(names) - set(val)):
            chosen = f"data.classes={wanted}" if isinstance(wanted, int) else "data.classes"
            raise UserError(f"{chosen} chooses {first_few(missing)}, which {place}/train has and {place}/val has not.")
        return names
    only = {"train": set(train) - set(val), "val": set(val) - set(train)}
    if any(only.values()):
        parts = [
            f"{len(names)} only in {split}/ ({first_few(sorted(names))})" for split, names in only.items() if names
        ]
        text = "give both the same, or name those to be trained on, one on each line of a file: data.classes=FILE"
        raise UserError(
            f"The class folders of {place}/train and {place}/val differ: {'; '.join(parts)}. Please {text}."
        )
    return list(train)


def has_image_folders(root: Path) -> bool:
    return (root / "train").is_dir() and (root / "val").is_dir()
