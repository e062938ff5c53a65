"""Extract a download of ImageNet into train/WNID/*.JPEG and val/WNID/*.JPEG. Imports no torch.

The process can be killed at any time without loss. Each image is written under a hidden name and then renamed, so
every image with its final name is complete. Each split is written to a hidden folder and then renamed, so no run can
train on an incomplete split. If it is run again, the command writes the images that are missing or differ in size
from the archives.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.data.disk_space import require_space, size_text, tell
from ranger21.data.layout import SPLITS
from ranger21.data.names import is_hidden
from ranger21.downloads.checksums import require_checksums
from ranger21.downloads.forms import recognize
from ranger21.downloads.parts import ImagePart, PartState, size_there
from ranger21.system.errors import UserError
from ranger21.system.files import lacks_space
from ranger21.system.processes import in_parallel, locked
from ranger21.system.project import command

UNFINISHED = ".unfinished"  # suffix of the hidden names


@dataclass(frozen=True)
class PartTask:
    """A part with the folder of its split."""

    part: ImagePart
    folder: Path


def survey(job: PartTask) -> PartState:
    """Return the state of a part's images in its folder."""
    return job.part.missing(job.folder)


def write_missing(job: PartTask) -> None:
    """Write those images of a part that are missing from its folder or have the wrong size there."""

    def lacks(place: str, size: int | None) -> bool:
        there = size_there(job.folder / place)
        return not there if size is None else there != size

    for place, data in job.part.images(lacks):
        write(job.folder / place, data)


def write(path: Path, data: bytes) -> None:
    """Write a file atomically: if the process is killed, the file is complete or absent."""
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
    """Return the error for a file or folder that could not be written or read."""
    if lacks_space(error):
        remedy = "Free disk space and run the same command again, which continues where this one stopped"
    else:
        remedy = "Check its permissions, or choose another TARGET"
    return UserError(f"{path} cannot be written ({error.strerror}). {remedy}.")


def hidden_folder(target: Path, split: str) -> Path:
    """Return the folder of a split while it is incomplete."""
    return target / f".{split}{UNFINISHED}"


def split_folders(target: Path) -> dict[str, Path]:
    """Return the current folder of each split, existing or to be created."""
    return {s: target / s if (target / s).is_dir() else hidden_folder(target, s) for s in SPLITS}


def prepare(source: Path, target: Path, processes: int, published: dict[str, str] | None = None) -> None:
    """Write the images of the archives or parquet files that are missing from the target or have the wrong size there.

    Args:
        source: Folder with the downloaded files.
        target: Folder for train/ and val/.
        processes: Number of processes.
        published: MD5 checksums by file name (`ranger21.downloads.checksums.MD5`), verified before files are read;
            None to skip this.

    Raises:
        UserError: If files are missing, damaged or do not match, or the target cannot be written.
    """
    try:
        folders = split_folders(target)
        download = recognize(source)
        for sentence in (download.told(source), *download.notes, *download.copied):
            tell(sentence)
        jobs = [PartTask(part, folders[part.split]) for part in download.parts]
        found = dict(in_parallel(survey, jobs, processes, "looking for missing images"))
        require_classes(jobs, found)
        missing = {job: found[job].missing for job in jobs if found[job].missing}
        leftovers = [path for folder in folders.values() for path in folder.glob(f"*/.*{UNFINISHED}")]
        if not missing and not leftovers and not any(hidden_folder(target, split).exists() for split in SPLITS):
            tell(f"{target} is complete. Nothing to do.")
            return
        tell_of_other_sizes(target, sum(of_part.differing for of_part in found.values()))
        read = {file for job in missing for file in job.part.files}
        require_space(target, sum(missing.values()))  # before the checksums, which take minutes
        require_checksums(read, published or {}, target)
        with alone(target, folders):
            for path in leftovers:  # from killed processes
                path.unlink()
            for _ in in_parallel(write_missing, list(missing), processes, "writing", missing.__getitem__, size_text):
                pass
            require_all_names(jobs, found, folders)
            for split, folder in folders.items():
                publish(folder, hidden_folder(target, split), target / split)
        again = command("python", "scripts/verify_imagenet.py", target)
        tell(f"{target} is complete. To decode and check every image: {again}")
    except OSError as error:
        raise unusable(error.filename or target, error) from error


def tell_of_other_sizes(target: Path, images: int) -> None:
    """Print how many images differ in size from those of the download, if any."""
    if images:
        are = "image is empty or has" if images == 1 else "images are empty or have"
        tell(f"{images:,} {are} another size in {target} than in SOURCE, and will be replaced")


def require_classes(jobs: Sequence[PartTask], found: dict[PartTask, PartState]) -> None:
    """Raise a UserError if a class has validation but no training images, or if the target contains other classes."""
    classes = {s: frozenset[str]().union(*(found[job].classes for job in jobs if job.part.split == s)) for s in SPLITS}
    if unknown := classes["val"] - classes["train"]:
        text = f"The class {min(unknown)} has validation images but no training images"
        raise UserError(f"SOURCE is not a single dataset. {text}. Download both splits of the same dataset.")
    for folder in {job.folder for job in jobs if job.folder.exists()}:
        names = {path.name for path in folder.iterdir() if not is_hidden(path.name)}
        if strangers := names - classes["train"]:
            text = f"which is not a class of SOURCE. Remove it, or choose another TARGET than {folder.parent}"
            raise UserError(f"{folder} contains {min(strangers)!r}, {text}.")


def require_all_names(jobs: Sequence[PartTask], found: dict[PartTask, PartState], folders: dict[str, Path]) -> None:
    """Raise a UserError if a split has fewer files than the download has images, several of which have one name."""
    for split, folder in folders.items():
        images = sum(found[job].images for job in jobs if job.part.split == split)
        written = sum(not is_hidden(name) for place in folder.iterdir() for name in os.listdir(place))
        if written < images:
            raise UserError(
                f"SOURCE has {images:,} images for {split}/, but only {written:,} different names for them. It is not "
                "a single dataset, or has some files twice. Download it again into an empty folder."
            )


@contextlib.contextmanager
def alone(target: Path, folders: dict[str, Path]) -> Iterator[None]:
    """Create the target and lock it against other processes of this command."""
    target.mkdir(parents=True, exist_ok=True)
    with locked(target, f"Another process is preparing {target}. Wait for it, or stop it."):
        if split_folders(target) != folders:
            raise UserError(f"Another process has just prepared {target}. Repeat the same command to check it.")
        yield


def publish(folder: Path, hidden: Path, visible: Path) -> None:
    """Rename the folder of a completed split to its final name."""
    if folder == hidden:
        hidden.rename(visible)
    elif hidden.exists():  # the split already has its final name
        shutil.rmtree(hidden)
