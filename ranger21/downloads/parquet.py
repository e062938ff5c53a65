"""The parquet files of Hugging Face's imagenet-1k, each of which is a part for one process. Imports no torch."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.data.names import LONGEST, is_plain
from ranger21.data.safe_open import MAX_BYTES
from ranger21.downloads.parts import Download, PartState, Wanted, reading, size_there
from ranger21.system.errors import UserError
from ranger21.system.memory import at_most

LARGEST_GROUP = 1 << 31  # bytes of memory allowed for a group of rows; a whole file has about 500 MB
MOST_OF_FILE, SLACK = 4, 1 << 20  # the images of a file may have at most 4 times its bytes plus 1 MiB
SPLITS = {"train": "train", "validation": "val"}  # Hugging Face's name: our name


@dataclass(frozen=True)
class ParquetFile:
    """A parquet file with images of many classes of a split."""

    file: Path
    split: str

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def missing(self, folder: Path) -> PartState:
        """Return the state of the images in `folder`, with the missing bytes estimated from the size of the file.

        The sizes of images are not known without reading the whole file, so only an empty file counts as different.
        """
        with self._open() as file:
            places = [place for group in range(file.num_row_groups) for place in self._places(file, group)]
        sizes = [size_there(folder / place) for place in places]
        lacking = sum(not size for size in sizes)
        size = -(-self.file.stat().st_size * lacking // max(1, len(places)))  # rounded up
        return PartState(size, frozenset(place.partition("/")[0] for place in places), sizes.count(0))

    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        room = MOST_OF_FILE * self.file.stat().st_size + SLACK
        with self._open() as file:
            for group in range(file.num_row_groups):
                places = self._places(file, group)
                if any(wanted(place, None) for place in places):
                    for place, data in zip(places, _column(file, group, "bytes"), strict=True):
                        if data is None or len(data) > MAX_BYTES:
                            raise ValueError(f"no bytes of {place}, or too many")
                        room -= len(data)
                        if room < 0:
                            raise ValueError("its images are far larger than the file")
                        if wanted(place, len(data)):
                            yield place, data

    @contextmanager
    def _open(self) -> Iterator[Any]:
        from pyarrow import parquet

        # No threads or read-ahead by pyarrow, because several processes run in parallel.
        with reading(self.file), parquet.ParquetFile(self.file, page_checksum_verification=True) as file:
            yield file

    def _places(self, file: Any, group: int) -> list[str]:
        """Return the places CLASS/NAME of the images in a row group. Hugging Face appends the wnid to each name."""
        places = []
        for path in _column(file, group, "path"):
            match = re.fullmatch(r"(\w+)_(n\d{8})\.JPEG", str(path), re.ASCII)
            if match is None or not is_plain(f"{match[1]}.JPEG"):
                text = "which is not of the form n01440764_10026_n01440764.JPEG and was not written"
                raise UserError(f"{self.file} has the image {str(path)[:LONGEST]!a}, {text}. Download the file again.")
            places.append(f"{match[2]}/{match[1]}.JPEG")
        return places


def _column(file: Any, group: int, name: str) -> Iterator[Any]:
    with at_most(LARGEST_GROUP):
        table = file.read_row_group(group, columns=[f"image.{name}"], use_threads=False)
    return ((cell.as_py() or {}).get(name) for cell in table.column("image"))


def parquet_files(source: Path) -> dict[str, list[Path]]:
    """Return the files of each split (by our names), in the folder or its subfolder data/."""
    found: dict[str, list[Path]] = {}
    for folder in (source / "data", source):
        for file in sorted(folder.glob("*-of-*.parquet")):
            split = SPLITS.get(file.name.partition("-")[0])
            if split is not None:
                found.setdefault(split, []).append(file)
    return found


def find(source: Path) -> Download | None:
    """Return the parquet files in a folder, or None if it has none; raise a UserError if some are missing."""
    if not parquet_files(source):
        return None
    parts = parquet_parts(source)
    count = {split: sum(part.split == split for part in parts) for split in ("train", "val")}
    contents = f"{count['train']:,} training and {count['val']:,} validation files"
    return Download("the parquet files of Hugging Face's imagenet-1k", contents, "the names of the images", parts)


def parquet_parts(source: Path) -> list[ParquetFile]:
    """Return the parts of a folder; raise a UserError if a file of either split is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UserError("Reading parquet files needs pyarrow: pip install 'ranger21-imagenet[prepare]'") from error
    found = parquet_files(source)
    for theirs, ours in SPLITS.items():
        names = [file.name for file in found.get(ours, [])]
        if not names:
            raise UserError(f"{source} has no files {theirs}-*-of-*.parquet. Download them as well.")
        total = names[0].removesuffix(".parquet").rpartition("-")[2]
        wanted = [f"{theirs}-{number:05d}-of-{total}.parquet" for number in range(int(total) if total.isdigit() else 0)]
        if lacking := [name for name in wanted if name not in names]:
            raise UserError(f"{source} lacks {lacking[0]}. Download it as well.")
        if len(names) != len(wanted):
            odd = next(name for name in names if name not in wanted or names.count(name) > 1)
            raise UserError(f"{source} has the file {odd}, which is not one of {total} or exists twice. Remove it.")
    return [ParquetFile(file, split) for split in ("train", "val") for file in found[split]]
