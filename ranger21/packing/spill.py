"""Downloads that can only be read from their beginning, such as parquet: their resized images in files of their own.

Each part is read once. Its images, resized and encoded as the pack's recipe says, are written to files of some
thousand images each, in a hidden folder of the pack. From these, the archives are made in their own order. A process
that is killed continues after the last complete file.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.decode import Encoded
from ranger21.data.pack import PackRecipe
from ranger21.downloads.parts import ImagePart
from ranger21.packing import writing
from ranger21.packing.encoding import PackedImage, packed
from ranger21.packing.listing import OrderedImages, PartImages
from ranger21.packing.located import REMEDY
from ranger21.packing.writing import removed_unless_renamed, told
from ranger21.system.errors import UserError

SPILL = ".spill"  # the hidden folder
IMAGES_A_FILE = 1024
KNOWN = ("sizes", "begins", "lengths", "heads", "heights", "widths")  # numbers of each image in a record


@dataclass(frozen=True)
class Spill:
    """A part of a download, and the files for its images.

    Attributes:
        part: The part.
        number: Its place among all parts.
        config: Resizing of the images.
        recipe: Recipe of the pack.
        folder: The folder for the files.
        skip: Whether to skip unreadable images instead of raising an error.
    """

    part: ImagePart
    number: int
    config: ImageFolderConfig
    recipe: PackRecipe
    folder: Path
    skip: bool

    def file(self, number: int) -> Path:
        return self.folder / f"{self.number:05d}-{number:05d}.images"

    def size(self) -> int:
        """Return the bytes of the part's files."""
        return sum(file.stat().st_size for file in self.part.files)

    def digest(self) -> str:
        """Return a hash of the recipe and of the part's files with their sizes and times."""
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in self.part.files]
        return hashlib.sha256(repr((self.recipe, self.part.split, self.number, states)).encode()).hexdigest()

    def records(self) -> list[dict[str, Any]]:
        """Return the records of the complete files, in order."""
        digest, found = self.digest(), list[dict[str, Any]]()
        for number in count():
            record = _record(self.file(number), digest)
            if record is None:
                return found
            found.append(record)
            if record["last"]:
                return found
        raise AssertionError

    def done(self) -> bool:
        return any(record["last"] for record in self.records())


def _record(file: Path, digest: str) -> dict[str, Any] | None:
    """Return the record of a file with images, or None if the file is incomplete, missing or of something else."""
    try:
        record = json.loads(file.with_suffix(".json").read_text())
        whole = file.stat().st_size == sum(record["lengths"]) and record["digest"] == digest
        same = len({len(record[name]) for name in (*KNOWN, "places")}) == 1 and isinstance(record["last"], bool)
        return record if whole and same else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def spill(job: Spill) -> None:
    """Write the files that a part still lacks.

    Raises:
        UserError: If the part or an image cannot be read, or a file cannot be written.
    """
    torch.set_num_threads(1)  # processes run in parallel
    done = job.records()
    if done and done[-1]["last"]:
        return
    known = sum(len(record["places"]) for record in done)
    images = islice(job.part.images(lambda place, size: True), known, None)
    for number in count(len(done)):
        if _write(job, number, islice(images, IMAGES_A_FILE)):
            return


def _write(job: Spill, number: int, images: Iterator[tuple[str, bytes]]) -> bool:
    """Write a file and its record; return whether it is the part's last."""
    file = job.file(number)
    record: dict[str, Any] = {"places": [], **{name: [] for name in KNOWN}, "skipped": {}}
    new, begin = file.with_name(f".{file.name}.tmp"), 0
    with told(file), removed_unless_renamed(new):
        with open(new, "wb") as stream:
            for place, data in images:
                image = _packed(job, place, data, record["skipped"])
                stream.write(image.content)
                numbers = (len(data), begin, len(image.content), image.begin, *image.shape)
                record["places"].append(place)
                for name, value in zip(KNOWN, numbers, strict=True):
                    record[name].append(value)
                begin += len(image.content)
        writing.commit(new, file)
        last = len(record["places"]) < IMAGES_A_FILE
        writing.write_json(file.with_suffix(".json"), record | {"last": last, "digest": job.digest()})
    return last


def _packed(job: Spill, place: str, data: bytes, skipped: dict[str, str]) -> PackedImage:
    """Return the content for an image; if it cannot be read and is to be skipped, note why and return nothing."""
    name = f"{place} in {job.part.files[0]}"
    try:
        return packed(Encoded(np.frombuffer(data, np.uint8), name, REMEDY), job.config, job.recipe)
    except UserError as error:
        if not job.skip:
            raise UserError(f"{error} Or skip unreadable images with --on-bad-image skip.") from error
        skipped[place] = str(error)
        return PackedImage(b"", 0, (0, 0))


def spilled(job: Spill) -> PartImages:
    """Return the images of a part whose files are complete, with the number of the file as the last of the numbers."""
    records = job.records()
    places = [place for record in records for place in record["places"]]
    rows = [
        np.array([*(record[name] for name in KNOWN), [number] * len(record["places"])], np.int64).T
        for number, record in enumerate(records)
    ]
    return PartImages(places, np.concatenate(rows))


class SpilledSource:
    """The images of a split, resized and encoded in files.

    Args:
        split: The name of the download with that of the split, for messages.
        images: The images, with `KNOWN` and the number of the file.
        jobs: All parts.
    """

    def __init__(self, split: Path, images: OrderedImages, jobs: list[Spill]) -> None:
        self.split, self.index, self.labels = split, images.index, images.index.labels
        self._part, self._numbers = images.part, images.numbers
        self._folder = jobs[0].folder
        self._skipped = {
            place: why
            for job in jobs
            if job.part.split == split.name
            for record in job.records()
            for place, why in record["skipped"].items()
        }

    def __len__(self) -> int:
        return len(self.index)

    def packed(self, image: int) -> PackedImage:
        """Return the content for an image; raise a UserError if it was skipped, an OSError if the file is damaged."""
        if why := self._skipped.get(self.index.path(image)):
            raise UserError(why)
        _, begin, length, head, height, width, number = self._numbers[image].tolist()
        file = self._folder / f"{self._part[image]:05d}-{number:05d}.images"
        with open(file, "rb") as stream:
            content = os.pread(stream.fileno(), length, begin)
        if len(content) < length:
            raise OSError(errno.EIO, f"{file} is truncated")
        return PackedImage(content, head, (height, width))
