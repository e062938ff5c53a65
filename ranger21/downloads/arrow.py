"""Folders that `save_to_disk` of Hugging Face's datasets wrote, and its cache: Arrow files. Imports no torch."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ranger21.data.names import is_plain
from ranger21.data.safe_open import MAX_BYTES
from ranger21.downloads.located import LocatedPart, Location
from ranger21.downloads.naming import naming
from ranger21.downloads.numbered import SPLITS, Numbered, in_order, matches
from ranger21.downloads.parquet import LARGEST_GROUP
from ranger21.downloads.parts import MOST_OF_FILE, SLACK, Download, reading
from ranger21.system.errors import UserError
from ranger21.system.memory import at_most

SAVED = r"data-(?P<number>\d{5})-of-(?P<total>\d{5})\.arrow"  # in a folder named by the split
CACHED = r".+-(?P<split>train|validation)-(?P<number>\d{5})-of-(?P<total>\d{5})\.arrow"
END = b"\xff\xff\xff\xff\0\0\0\0"  # the last bytes of a complete file
LARGEST_STATE = 1 << 24  # bytes of state.json


@dataclass(frozen=True)
class ArrowFile(LocatedPart):
    """An Arrow file with images of many classes of a split. `number` is its place among the files of the split."""

    file: Path
    split: str
    number: int

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    @property
    def container(self) -> Path:
        return self.file

    def locations(self) -> Iterator[Location]:
        """Yield where each image is in the file. Images are not read, because the file is mapped into memory."""
        size, row = self.file.stat().st_size, 0
        room = MOST_OF_FILE * size + SLACK
        with self._open() as (reader, first):
            names = naming(self.file, reader.schema.metadata, f"{self.split}_{self.number:05d}")
            labelled = "label" in reader.schema.names
            while (batch := _next(reader)) is not None:
                images = batch.column("image")
                spans = _spans(images.field("bytes"), first, size)
                labels = batch.column("label") if labelled else [None] * len(images)
                for path, label, (begin, length) in zip(images.field("path"), labels, spans, strict=True):
                    place = names.place(path.as_py(), None if label is None else label.as_py(), row)
                    room -= length
                    if not 0 <= length <= MAX_BYTES or room < 0:
                        raise ValueError(f"no bytes of {place}, or too many")
                    yield Location(place, length, begin)
                    row += 1

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, int]]:
        """Yield a reader of the file's batches, and the address at which the file is in memory."""
        import pyarrow

        with reading(self.file), open(self.file, "rb") as file:
            file.seek(-len(END), os.SEEK_END)
            if file.read() != END:  # pyarrow takes a file that lacks whole batches for complete
                raise EOFError("it has no end marker")
            with pyarrow.memory_map(str(self.file)) as mapped:
                first = mapped.read_buffer(len(END)).address
                mapped.seek(0)
                with pyarrow.ipc.open_stream(mapped) as stream:
                    yield stream, first


def _spans(contents: Any, first: int, size: int) -> list[tuple[int, int]]:
    """Return the first byte in the file and the length of each image, -1 for none.

    Args:
        contents: pyarrow's array of the images.
        first: Address of the file in memory.
        size: Bytes of the file.
    """
    _, offsets, data = contents.buffers()
    kind = np.int64 if str(contents.type).startswith("large") else np.int32
    ends = np.frombuffer(offsets, kind)[contents.offset : contents.offset + len(contents) + 1].astype(np.int64)
    begin = data.address - first if data else 0
    if begin < 0 or begin + int(ends[-1]) > size:
        raise ValueError("its images are compressed, which Hugging Face's library does not do")
    lengths = np.where(contents.is_null().to_numpy(zero_copy_only=False), -1, np.diff(ends))
    return list(zip((begin + ends[:-1]).tolist(), lengths.tolist(), strict=True))


def _next(reader: Any) -> Any:
    """Return the next batch of rows, or None at the end."""
    with at_most(LARGEST_GROUP):
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return None
        batch.validate(full=True)
    return batch


def find(source: Path) -> Download | None:
    """Return the Arrow files in a folder, or None if it has none; raise a UserError if some are missing."""
    found = arrow_files(source)
    if not found:
        return None
    try:
        import pyarrow.ipc  # noqa: F401
    except ImportError as error:
        raise UserError("Reading Arrow files needs pyarrow: pip install 'ranger21-imagenet[prepare]'") from error
    files = in_order(source, found)
    parts = [ArrowFile(file, split, number) for split in files for number, file in enumerate(files[split])]
    contents = " + ".join(f"{len(files[split]):,}" for split in files) + " files"
    return Download("Hugging Face's Arrow files", contents, "the names of the images, or the column label", parts)


def arrow_files(source: Path) -> list[Numbered]:
    """Return the files of both splits, in folders named by the split, or in the folder itself."""
    found = matches(source.glob("*.arrow"), CACHED)
    for split in SPLITS:
        folder = source / split
        of_split = matches(folder.glob("*.arrow"), SAVED, split)
        if of_split and (lacking := listed(folder) - {entry.file.name for entry in of_split}):
            raise UserError(f"{folder} lacks {min(lacking)}. Copy or download the folder again.")
        found += of_split
    if not found and (source / "state.json").exists() and sorted(source.glob("data-*.arrow")):
        text = "Give the folder that contains the folders train and validation, as DatasetDict.save_to_disk writes it"
        raise UserError(f"{source} is a single split of a dataset. {text}.")
    return found


def listed(folder: Path) -> set[str]:
    """Return the names of the files that a saved split should have, by its state.json."""
    if not (folder / "state.json").exists():
        return set()
    with reading(folder / "state.json"), open(folder / "state.json", "rb") as stream:
        files = json.loads(stream.read(LARGEST_STATE))["_data_files"]
        return {file["filename"] for file in files if is_plain(file["filename"])}
