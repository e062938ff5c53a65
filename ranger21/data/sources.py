"""Sources of stored images with labels, by index: folders and packs."""

import os
from pathlib import Path

import numpy as np

from ranger21.data.decode import Encoded
from ranger21.data.index import Index
from ranger21.data.names import is_plain
from ranger21.data.npz import load_arrays
from ranger21.data.pack import IMAGES_A_SHARD, read_facts, shard_name
from ranger21.data.safe_open import read_file
from ranger21.system.errors import UserError
from ranger21.system.project import command
from ranger21.system.wording import reason

OF_IMAGES = ("offsets", "lengths", "shapes")  # the position of each image, and the height and width of raw pixels
AGAIN = "repeat the command that made the pack to restore it"


class FolderSource:
    """The image files of an index, below the folder `split`."""

    def __init__(self, split: Path, index: Index) -> None:
        self.split, self.index = split, index
        self.labels = index.labels  # computed once here, not in every worker
        search = command("python", "scripts/verify_imagenet.py", split.parent, "--expect", "none")
        self.remedy = f"replace or remove it; to find all such images, run {search}"

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, image: int) -> tuple[Encoded, int]:
        path = str(self.split / self.index.path(image))
        try:
            data = read_file(path)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UserError(f"The image {path} cannot be read ({why}): {self.remedy}.") from error
        return Encoded(data, path, self.remedy), int(self.labels[image])


def _require_whole(index: Index, arrays: dict[str, np.ndarray], sizes: list[int]) -> None:
    """Raise a ValueError if the index of a pack is inconsistent, or does not fit archives of these sizes."""
    begin, length, shape = (arrays[name].astype(np.int64, casting="safe") for name in OF_IMAGES)
    counts, images = arrays["counts"], len(index)
    if not all(map(is_plain, index.classes)) or len(set(index.classes)) < len(index.classes):
        raise ValueError("its classes are not valid folder names")
    if not index.leads_below():
        raise ValueError("its images are not valid paths")
    of_images = (begin, length, shape, *(() if index.sizes is None else (index.sizes,)))
    counted = len(counts) == len(index.classes) and (counts >= 0).all() and counts.sum() == images
    if not counted or any(len(array) != images for array in of_images) or shape.shape != (images, 2):
        raise ValueError("its arrays do not match")
    room = np.repeat(np.array(sizes, np.int64), IMAGES_A_SHARD)[:images]
    if len(room) < images or min(begin.min(), length.min(), shape.min()) < 0 or (length > room - begin).any():
        raise ValueError("it places images beyond the end of their archives")
    if ((shape[:, 0] > 0) & (3 * shape[:, 0] * shape[:, 1] != length)).any():
        raise ValueError("the sizes of images do not match their numbers of pixels")


class PackSource:
    """The images of a split of a pack, or the subset that `choose` selected.

    Raises:
        UserError: If the index of the split cannot be read or is inconsistent.
    """

    def __init__(self, pack: Path, split: str) -> None:
        self.pack, self.split = pack, split
        search = command("python", "scripts/pack.py", pack, "--check")
        self.remedy = f"to check the whole pack, run {search}"
        try:
            arrays = load_arrays(pack / f"{split}.npz", (*OF_IMAGES, "classes", "counts", "paths", "sizes"))
            sizes = arrays.get("sizes")  # version 1 has none
            self.index = Index(tuple(arrays["classes"].tolist()), arrays["counts"], arrays["paths"], sizes)
            _require_whole(self.index, arrays, [shard["bytes"] for shard in read_facts(pack)["splits"][split]])
            self._offsets, self._lengths, self._shapes = (arrays[name] for name in OF_IMAGES)
            self.labels = self.index.labels
        except UserError:
            raise
        except Exception as error:  # a damaged file can raise anything
            raise UserError(f"{pack / f'{split}.npz'} cannot be read ({reason(error)}): {AGAIN}.") from error
        self.chosen: np.ndarray | None = None
        self.skipped = int(np.count_nonzero(self._lengths == 0))  # images that were unreadable when the pack was made
        if self.skipped:
            self.choose(np.flatnonzero(self._lengths), list(range(len(self.index.classes))))
        self._files: dict[int, int] = {}

    def choose(self, images: np.ndarray, classes: list[int]) -> None:
        """Keep only these images and classes, given by their current indices, and renumber them."""
        self.chosen = images if self.chosen is None else self.chosen[images]
        self.index = self.index.select(images, classes)
        self.labels = self.index.labels

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, image: int) -> tuple[Encoded, int]:
        place = image if self.chosen is None else int(self.chosen[image])
        shard, length = place // IMAGES_A_SHARD, int(self._lengths[place])
        data = np.empty(length, np.uint8)
        try:
            got = os.preadv(self._open(shard), [data.data], int(self._offsets[place]))
        except OSError as error:
            raise self._name(image, data).error(error.strerror) from error
        encoded = self._name(image, data)
        if got != length:
            raise encoded.error(f"{self.pack / shard_name(self.split, shard)} is truncated")
        return encoded, int(self.labels[image])

    def _name(self, image: int, data: np.ndarray) -> Encoded:
        place = image if self.chosen is None else int(self.chosen[image])
        height, width = self._shapes[place].tolist()
        shape = (height, width) if height else None
        return Encoded(data, f"{self.pack}/{self.split}/{self.index.path(image)}", self.remedy, shape)

    def _open(self, shard: int) -> int:
        """Return the file descriptor of an archive. Forked workers may share it, because reads are positional."""
        if shard not in self._files:
            self._files[shard] = os.open(self.pack / shard_name(self.split, shard), os.O_RDONLY)
        return self._files[shard]
