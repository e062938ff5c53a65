"""The images of a download that can be read in any order: archives, zip, WebDataset, Arrow files, loose files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ranger21.data.decode import Encoded
from ranger21.data.index import Index
from ranger21.downloads.located import ImageReader, LocatedPart, Location
from ranger21.packing.listing import PartImages, in_order, listed

REMEDY = "download it again"


class LocatedSource:
    """The images of a split, each read from where it is.

    Args:
        split: The name of the download with that of the split, for messages.
        index: The images.
        containers: The archives or folders that have them.
        part: The place of each image's container in `containers`.
        numbers: Size, begin, kind, packed size and checksum of each (`ranger21.downloads.located.Location`).
    """

    def __init__(
        self, split: Path, index: Index, containers: Sequence[Path], part: np.ndarray, numbers: np.ndarray
    ) -> None:
        self.split, self.index, self.labels = split, index, index.labels
        self._containers, self._part, self._numbers = tuple(containers), part, numbers
        self._reader = ImageReader()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, image: int) -> tuple[Encoded, int]:
        container = self._containers[self._part[image]]
        location = Location(self.index.path(image), *self._numbers[image].tolist())
        data = self._reader.read(container, location)
        name = f"{location.place} in {container}"
        return Encoded(np.frombuffer(data, np.uint8), name, REMEDY), int(self.labels[image])


def locate(part: LocatedPart) -> PartImages:
    """Return where the images of a part are."""
    found = list(part.locations())
    numbers = np.array([image[1:] for image in found], np.int64).reshape(len(found), len(Location._fields) - 1)
    return PartImages([image.place for image in found], numbers)


def located_sources(source: Path, parts: Sequence[LocatedPart], processes: int) -> dict[str, LocatedSource]:
    """Return the images of each split of a download; raise a UserError if they do not make a dataset."""
    found = in_order(source, parts, listed(parts, locate, processes))
    containers = [part.container for part in parts]
    return {
        split: LocatedSource(source / split, images.index, containers, images.part, images.numbers)
        for split, images in found.items()
    }
