"""Sorts ImageNet, as it is downloaded, into train/WNID/*.JPEG and val/WNID/*.JPEG. Imports no torch.

Nothing is lost when the process dies, whatever it was doing, and nothing has to be noted down for that: an image is
written under a hidden name and renamed, so what is there under its own name is whole; and a split is filled in a
hidden folder and renamed, so nobody trains on half of one. Run again, it does what is missing, or has another size than
in the archives.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ranger21.data.archives import DEVKIT, TRAIN, VAL, PartState, Wanted, archive_parts, size_there
from ranger21.data.checksums import require_checksums
from ranger21.data.disk_space import require_space, size_text, tell
from ranger21.data.layout import SPLITS
from ranger21.data.names import is_hidden
from ranger21.data.parquet import parquet_files, parquet_parts
from ranger21.system.errors import UserError
from ranger21.system.processes import in_parallel, locked
from ranger21.system.project import command

UNFINISHED = ".unfinished"  # the end of an image's hidden name


class ImagePart(Protocol):
    """Images of a split that one process reads by itself."""

    @property
    def split(self) -> str: ...

    @property
    def files(self) -> tuple[Path, ...]:
        """What its images and their classes are read from."""

    def missing(self, folder: Path) -> PartState:
        """What `folder` has of the images, and what it lacks."""

    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        """The images that are wanted, each with its place CLASS/NAME."""


@dataclass(frozen=True)
class PartTask:
    """A part, and the folder of its split."""

    part: ImagePart
    folder: Path


def survey(job: PartTask) -> PartState:
    return job.part.missing(job.folder)


def write_missing(job: PartTask) -> None:
    def lacks(place: str, size: int | None) -> bool:
        there = size_there(job.folder / place)
        return not there if size is None else there != size

    for place, data in job.part.images(lacks):
        write(job.folder / place, data)


def write(path: Path, data: bytes) -> None:
    """Writes a file that is there as a whole or not at all, whenever the process is killed."""
    hidden = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden.write_bytes(data)
        hidden.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            hidden.unlink()
        raise unusable(path, error) from error


def unusable(path: str | Path, error: OSError) -> UserError:
    """The sentence for a file or folder that could not be written or looked into."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "make room, and run the same command again, which goes on where this one stopped"
    else:
        remedy = "see to its permissions, or choose another TARGET"
    return UserError(f"{path} cannot be written ({error.strerror}): {remedy}.")


def hidden_folder(target: Path, split: str) -> Path:
    """Where a split is filled until it is complete."""
    return target / f".{split}{UNFINISHED}"


def split_folders(target: Path) -> dict[str, Path]:
    """Where the images of each split are, or are to be written."""
    return {s: target / s if (target / s).is_dir() else hidden_folder(target, s) for s in SPLITS}


def prepare(source: Path, target: Path, processes: int, published: dict[str, str] | None = None) -> None:
    """Sorts the archives or parquet files of `source` into `target`, or what is missing there or has another size.

    Args:
        published: the MD5 of files by their names (`ranger21.data.checksums.MD5`), which are compared before they are
            read from; by default none are.

    Raises a UserError for everything that a user can mend.
    """
    try:
        folders = split_folders(target)
        jobs = [PartTask(part, folders[part.split]) for part in find_parts(source)]
        found = dict(in_parallel(survey, jobs, processes, "looking for what is missing"))
        require_classes(jobs, found)
        missing = {job: found[job].missing for job in jobs if found[job].missing}
        leftovers = [path for folder in folders.values() for path in folder.glob(f"*/.*{UNFINISHED}")]
        if not missing and not leftovers and not any(hidden_folder(target, split).exists() for split in SPLITS):
            tell(f"{target} is complete: there is nothing to do.")
            return
        tell_of_other_sizes(target, sum(of_part.differing for of_part in found.values()))
        read = {file for job in missing for file in job.part.files}
        require_space(target, sum(missing.values()))  # first: the checksums take minutes
        require_checksums(read, published or {}, target)
        with alone(target, folders):
            for path in leftovers:  # of a process that was killed while it wrote
                path.unlink()
            for _ in in_parallel(write_missing, list(missing), processes, "writing", missing.__getitem__, size_text):
                pass
            for split, folder in folders.items():
                publish(folder, hidden_folder(target, split), target / split)
        again = command("python", "scripts/verify_imagenet.py", target)
        tell(f"{target} is complete. To decode every image of it once: {again}")
    except OSError as error:
        raise unusable(error.filename or target, error) from error


def tell_of_other_sizes(target: Path, images: int) -> None:
    if images:
        are = "image is empty or has" if images == 1 else "images are empty or have"
        tell(f"{images:,} {are} another size in {target} than in the archives, and will be written anew")


def find_parts(source: Path) -> Sequence[ImagePart]:
    """The parts of the official archives, or of the parquet files. Raises a UserError unless all are there."""
    if not source.is_dir():
        raise UserError(f"There is no folder {source}: SOURCE must be the one with the downloaded files.")
    lacking = [name for name in (TRAIN, VAL, DEVKIT) if not (source / name).exists()]
    if not lacking:
        return archive_parts(source)
    if parquet_files(source):
        return parquet_parts(source)
    if len(lacking) < 3:
        raise UserError(f"{source} lacks {' and '.join(lacking)}: download it too, from https://image-net.org.")
    raise UserError(
        f"{source} has neither ImageNet's archives ({', '.join(lacking)}) nor the parquet files of Hugging Face's "
        "imagenet-1k (train-*.parquet, validation-*.parquet)."
    )


def require_classes(jobs: Sequence[PartTask], found: dict[PartTask, PartState]) -> None:
    """Raises a UserError for validation images of a class without training images, and for a target of other data."""
    classes = {s: frozenset[str]().union(*(found[job].classes for job in jobs if job.part.split == s)) for s in SPLITS}
    if unknown := classes["val"] - classes["train"]:
        text = f"there are validation images of the class {min(unknown)}, but no training images"
        raise UserError(f"SOURCE is not one data set: {text}; download both of the same.")
    for folder in {job.folder for job in jobs if job.folder.exists()}:
        names = {path.name for path in folder.iterdir() if not is_hidden(path.name)}
        if strangers := names - classes["train"]:
            text = f"which is not of this ImageNet: remove it, or choose another TARGET than {folder.parent}"
            raise UserError(f"{folder} holds {min(strangers)!r}, {text}.")


@contextlib.contextmanager
def alone(target: Path, folders: dict[str, Path]) -> Iterator[None]:
    """Creates the target, and keeps a second process like this one away from it."""
    target.mkdir(parents=True, exist_ok=True)
    with locked(target, f"Another process is preparing {target}: wait for it, or stop it."):
        if split_folders(target) != folders:
            raise UserError(f"Another process has just prepared {target}: run the same command again to check.")
        yield


def publish(folder: Path, hidden: Path, visible: Path) -> None:
    """Gives a split, now complete, its name."""
    if folder == hidden:
        hidden.rename(visible)
    elif hidden.exists():  # the split has come to its name in another way
        shutil.rmtree(hidden)
