"""Images in folders and in packs, by number: what is stored, and its label."""

import os
from pathlib import Path

import numpy as np

from ranger21.arguments import command
from ranger21.data.decode import Encoded
from ranger21.data.index import Index
from ranger21.data.opening import read_file
from ranger21.data.pack import IMAGES_A_SHARD, shard_name
from ranger21.errors import UserError

AGAIN = "run the command again that made the pack, which makes it anew"


class Folder:
    """The files of an index below `split`."""

    def __init__(self, split: Path, index: Index) -> None:
        self.split, self.index = split, index
        self.labels = index.labels  # made here once, not in every loader process
        search = command("python", "scripts/verify_imagenet.py", split.parent, "--expect", "none")
        self.remedy = f"replace or remove it; {search} finds all such"

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


class Packed:
    """The images of a split of a pack, by number; or those of them that `chosen` numbers."""

    def __init__(self, pack: Path, split: str) -> None:
        self.pack, self.split = pack, split
        search = command("python", "scripts/pack.py", pack, "--check")
        self.remedy = f"{search} finds what else is damaged in the pack and says what to do"
        try:
            with np.load(pack / f"{split}.npz", allow_pickle=False) as arrays:
                self._offsets, self._lengths, self._shapes = (arrays[name] for name in ("offsets", "lengths", "shapes"))
                sizes = arrays.get("sizes")  # version 1 has none
                self.index = Index(tuple(arrays["classes"].tolist()), arrays["counts"], arrays["paths"], sizes)
                self.labels = self.index.labels
        except Exception as error:  # of whatever a damaged file can raise
            raise UserError(f"{pack / f'{split}.npz'} cannot be read ({error}): {AGAIN}.") from error
        self.chosen: np.ndarray | None = None
        self.skipped = int(np.count_nonzero(self._lengths == 0))  # images that could not be read when it was made
        if self.skipped:
            self.choose(np.flatnonzero(self._lengths), list(range(len(self.index.classes))))
        self._files: dict[int, int] = {}

    def choose(self, images: np.ndarray, classes: list[int]) -> None:
        """From now on, only these of the images and of the classes that there are now, numbered anew."""
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
            raise encoded.error(f"{self.pack / shard_name(self.split, shard)} is cut short")
        return encoded, int(self.labels[image])

    def _name(self, image: int, data: np.ndarray) -> Encoded:
        place = image if self.chosen is None else int(self.chosen[image])
        height, width = self._shapes[place].tolist()
        shape = (height, width) if height else None
        return Encoded(data, f"{self.pack}/{self.split}/{self.index.path(image)}", self.remedy, shape)

    def _open(self, shard: int) -> int:
        """A file descriptor. Reads at a place share nothing, so forked processes may inherit it."""
        if shard not in self._files:
            self._files[shard] = os.open(self.pack / shard_name(self.split, shard), os.O_RDONLY)
        return self._files[shard]
