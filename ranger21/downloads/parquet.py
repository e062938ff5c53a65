"""The parquet files of Hugging Face's imagenet-1k, each of which is a part for one process. Imports no torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.data.safe_open import MAX_BYTES
from ranger21.downloads.naming import Naming, naming
from ranger21.downloads.numbered import Numbered, in_order, matches
from ranger21.downloads.parts import MOST_OF_FILE, SLACK, Download, ImagePart, PartState, Wanted, compared, reading
from ranger21.system.errors import UserError
from ranger21.system.memory import at_most

LARGEST_GROUP = 1 << 31  # bytes of memory allowed for a group of rows; a whole file has about 500 MB
NAMES = r"(?P<split>train|validation|val)-(?P<number>\d{5})-of-(?P<total>\d{5})(?:-[0-9a-f]{16})?\.parquet"
CONVERTED = r"(?P<number>\d{4,6})\.parquet"  # in a folder named by the split, as Hugging Face converts datasets


@dataclass(frozen=True)
class ParquetFile(ImagePart):
    """A parquet file with images of many classes of a split. `number` is its place among the files of the split."""

    file: Path
    split: str
    number: int = 0

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def missing(self, folder: Path) -> PartState:
        """Return the state of the images in `folder`, with the missing bytes estimated from the size of the file.

        The sizes of images are not known without reading the whole file, so only an empty file counts as different.
        """
        return compared(folder, self.listing(), self.file.stat().st_size)

    def listing(self) -> Iterator[tuple[str, None]]:
        with self._open() as file:
            for _, places in self._groups(file):
                yield from ((place, None) for place in places)

    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        room = MOST_OF_FILE * self.file.stat().st_size + SLACK
        with self._open() as file:
            for group, places in self._groups(file):
                if any(wanted(place, None) for place in places):
                    for place, data in zip(places, _column(file, group, "image.bytes"), strict=True):
                        if data is None or len(data) > MAX_BYTES:
                            raise ValueError(f"no bytes of {place}, or too many")
                        room -= len(data)
                        if room < 0:
                            raise ValueError("its images are far larger than the file")
                        if wanted(place, len(data)):
                            yield place, data

    def naming(self, file: Any) -> Naming:
        """Return how the images of the opened file get their names."""
        return naming(self.file, file.schema_arrow.metadata, f"{self.split}_{self.number:05d}")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        from pyarrow import parquet

        # No threads or read-ahead by pyarrow, because several processes run in parallel.
        with reading(self.file), parquet.ParquetFile(self.file, page_checksum_verification=True) as file:
            yield file

    def _groups(self, file: Any) -> Iterator[tuple[int, list[str]]]:
        """Yield each row group with the places CLASS/NAME of its images."""
        names, row = self.naming(file), 0
        labelled = "label" in file.schema_arrow.names
        for group in range(file.num_row_groups):
            paths = list(_column(file, group, "image.path"))
            labels = _column(file, group, "label") if labelled else [None] * len(paths)
            rows = enumerate(zip(paths, labels, strict=True), start=row)
            yield group, [names.place(path, label, number) for number, (path, label) in rows]
            row += len(paths)


def _column(file: Any, group: int, name: str) -> Iterator[Any]:
    with at_most(LARGEST_GROUP):
        table = file.read_row_group(group, columns=[name], use_threads=False)
    column, _, field = name.partition(".")
    cells = (cell.as_py() for cell in table.column(column))
    return ((cell or {}).get(field) for cell in cells) if field else cells


def parquet_files(source: Path) -> list[Numbered]:
    """Return the files of both splits, in the folder, in data/ or default/, or in folders named by the split."""
    found = []
    for folder in (source, source / "data", source / "default"):
        found += matches(folder.glob("*.parquet"), NAMES)
        for split in ("train", "validation", "val"):
            if partial := sorted((folder / f"partial-{split}").glob("*.parquet")):
                text = "Hugging Face's conversion of the first part of a larger dataset"
                raise UserError(f"{partial[0].parent} has {text}. Download the dataset's own files.")
            found += matches((folder / split).glob("*.parquet"), CONVERTED, split)
    return found


def find(source: Path) -> Download | None:
    """Return the parquet files in a folder, or None if it has none; raise a UserError if some are missing."""
    found = parquet_files(source)
    if not found:
        return None
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("Reading parquet files needs pyarrow: pip install 'ranger21-imagenet[prepare]'") from error
    files = in_order(source, found)
    parts = [ParquetFile(file, split, n) for split in files for n, file in enumerate(files[split])]
    rows = {"train": 0, "val": 0}
    for part in parts:
        with reading(part.file):
            rows[part.split] += pyarrow.parquet.read_metadata(part.file).num_rows
    contents = f"{rows['train']:,} + {rows['val']:,} images in {len(files['train'])} + {len(files['val'])} files"
    return Download("Hugging Face's parquet files", contents, labels_of(parts[0]), parts)


def labels_of(part: ParquetFile) -> str:
    """Return what tells the classes of the images, by the first image of a file."""
    with part._open() as file:
        first = next(_column(file, 0, "image.path"), None) if file.num_row_groups else None
        names = part.naming(file)
    try:
        Naming(part.file, None, (), "").place(first, None, 0)
    except UserError:
        return f"the column label{f', with {len(names.names):,} class names in the files' if names.names else ''}"
    return f"the names of the images{' and the column label' if names.wnids else ''}"
