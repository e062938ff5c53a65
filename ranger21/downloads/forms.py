"""The forms in which people have ImageNet: recognize the one in a folder. Imports no torch.

To add a form, write a module with a function that returns a `Download` (or None if the folder has another form), and
list the function in FORMS.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ranger21.data.names import is_hidden
from ranger21.downloads import (
    arrow,
    folders,
    hub_archives,
    kaggle,
    official,
    parquet,
    small,
    unread,
    webdataset,
)
from ranger21.downloads.parts import Download
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

FORMS: tuple[Callable[[Path], Download | None], ...] = (
    official.find,
    kaggle.find,
    small.find_tiny,
    small.find_hundred,
    folders.find,
    parquet.find,
    arrow.find,
    hub_archives.find,
    webdataset.find,
    unread.find,
)
SHOWN = 6  # names of a folder that has no known form


def snapshot(source: Path) -> Path:
    """Return the folder of files in a cache of the Hugging Face Hub, or the folder itself if it is no such cache.

    Args:
        source: A folder such as `datasets--ILSVRC--imagenet-1k`, or the folder that has one of these.

    Raises:
        UserError: If there are several datasets, or several versions of which none is the current one.
    """
    if datasets := sorted(place for place in source.glob("datasets--*") if (place / "snapshots").is_dir()):
        if len(datasets) > 1:
            names = first_few([place.name for place in datasets])
            raise UserError(f"{source} has several datasets: {names}. Give one of these folders as SOURCE.")
        source = datasets[0]
    versions = sorted(place for place in (source / "snapshots").glob("*") if place.is_dir())
    current = source / "refs" / "main"
    if current.is_file() and (commit := current.read_text().strip()) in {place.name for place in versions}:
        return source / "snapshots" / commit
    if len(versions) > 1:
        raise UserError(f"{source} has several versions, such as {versions[0]}. Give one of these folders as SOURCE.")
    return versions[0] if versions else source


def recognize(source: Path) -> Download:
    """Return the download in a folder.

    Raises:
        UserError: If the folder has none of the known forms, or files are missing.
    """
    if not source.is_dir():
        raise UserError(f"There is no folder {source}. SOURCE must be the folder with the downloaded files.")
    folder = snapshot(source)
    for find in FORMS:
        if download := find(folder):
            where = () if folder == source else (f"Read from {folder}",)
            return replace(download, notes=(*where, *download.notes))
    if lacking := official.lacking(source):
        raise UserError(f"{source} lacks {' and '.join(lacking)}. Download it as well, from https://image-net.org.")
    there = sorted(entry.name for entry in folder.iterdir() if not is_hidden(entry.name))
    archives = [name for name in there if name.endswith((".zip", ".tgz", ".tar.gz", ".7z", ".rar"))]
    unpack = f" If the images are in {first_few(archives)}, unpack it first." if archives else ""
    raise UserError(
        f"{source} has no form of ImageNet that is known here (docs/data.md lists them). It contains "
        f"{first_few(there, SHOWN) if there else 'nothing'}.{unpack}"
    )
