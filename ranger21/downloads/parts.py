"""What every form of a download consists of: parts with images, each read by one process. Imports no torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.wording import reason

BLOCK = 512  # bytes of a tar header, and of the zeros that end an archive
MOST_OF_FILE, SLACK = 4, 1 << 20  # the images of a packed file may have at most 4 times its bytes plus 1 MiB
IMAGES_A_SLICE = 500  # images per part where nothing else divides them, about 70 MB

Wanted = Callable[[str, "int | None"], bool]  # takes an image's place CLASS/NAME and its size, None if unknown


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Convert any exception from reading a file into a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged file can make tarfile, SciPy and PyArrow raise anything
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{file} cannot be read ({error.strerror}). Check its permissions and the disk.") from error
        why = "it would need far more memory than it should" if isinstance(error, MemoryError) else reason(error)
        raise UserError(f"{file} is damaged or truncated ({why}). Download it again.") from error


def weight(size: int) -> int:
    """Return the approximate disk space of an image in bytes."""
    return size + BLOCK


@dataclass(frozen=True)
class PartState:
    """The state of a part's images in a folder.

    Attributes:
        images: Number of the part's images.
        missing: Bytes of the images that are missing from the folder or have the wrong size there.
        classes: Classes of the part.
        differing: Number of images that have the wrong size in the folder.
    """

    images: int
    missing: int
    classes: frozenset[str]
    differing: int


class ImagePart(ABC):
    """A part of a split's images, read by a single process. It can be pickled and opens its files anew each time.

    Attributes:
        split: "train" or "val".
    """

    split: str

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """The large files from which the images and their classes are read."""

    @abstractmethod
    def listing(self) -> Iterator[tuple[str, int | None]]:
        """Yield the place CLASS/NAME and the size of every image without reading the images.

        The size is None if only reading the image tells it. The order is that of `images`, which is fast to read.
        """

    @abstractmethod
    def images(self, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
        """Yield the wanted images as (place CLASS/NAME, content); images that are not wanted are passed over."""

    def missing(self, folder: Path) -> PartState:
        """Return the state of the images in `folder`."""
        return compared(folder, self.listing())


@dataclass(frozen=True)
class Download:
    """A download that was recognized.

    Attributes:
        form: What it is, as in "the official archives".
        contents: What it has, as in "1,281,167 + 50,000 images".
        labels: Where the classes are read from, as in "LOC_val_solution.csv".
        parts: The parts of both splits.
        notes: Further sentences for the user, such as about files that are left out.
        copied: What to tell a user who has the images as files already, and copies them.
    """

    form: str
    contents: str
    labels: str
    parts: Sequence[ImagePart]
    notes: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()

    def told(self, source: Path) -> str:
        """Return the sentence that says what was recognized."""
        return f"{source} has {self.form}: {self.contents}, labels from {self.labels}"


def size_there(path: Path) -> int | None:
    """Return the size of a file, or None if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def compared(folder: Path, images: Iterable[tuple[str, int | None]], file_size: int = 0) -> PartState:
    """Return the state of images in a folder.

    Args:
        folder: The folder.
        images: The expected images, as place CLASS/NAME and size. If the size is unknown, an image is missing if it
            is absent or empty.
        file_size: Bytes of all images together, from which the missing bytes are estimated where sizes are unknown.
    """
    count = lacking = unknown = differing = 0
    classes = set[str]()
    for place, size in images:
        there = size_there(folder / place)
        classes.add(place.partition("/")[0])
        count += 1
        complete = bool(there) if size is None else there == size
        if not complete:
            differing += there is not None
            lacking += 0 if size is None else weight(size)
            unknown += size is None
    lacking += -(-file_size * unknown // max(1, count))  # rounded up
    return PartState(count, lacking, frozenset(classes), differing)
