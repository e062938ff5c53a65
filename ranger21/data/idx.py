"""Fashion-MNIST's idx files, plain or gzipped: a header of big-endian integers, then bytes."""

import copy
import gzip
import hashlib
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from ranger21.system.errors import UserError
from ranger21.system.wording import reason

SIDE = 28  # pixels
LARGEST = 1 << 26  # bytes of a file, unpacked: the largest of the four has 47,040,016


def read_idx(path: Path) -> np.ndarray:
    """The array of uint8 in an idx file; `path` without its `.gz`. Raises a UserError if it is damaged."""
    try:
        with open(path, "rb") if path.is_file() else gzip.open(f"{path}.gz") as file:
            raw = file.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        axes = raw[3]
        shape = tuple(np.frombuffer(raw, ">i4", count=axes, offset=4))
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}): fetch Fashion-MNIST again.") from error


class IdxImages:
    """Images of one split, uint8 arrays of (28, 28), with their labels."""

    CLASSES: ClassVar[list[str]] = [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle-boot",
    ]

    def __init__(self, root: Path, split: str) -> None:
        self.split = split
        self.images = read_idx(root / f"{split}-images-idx3-ubyte")
        self.labels = read_idx(root / f"{split}-labels-idx1-ubyte")
        self.numbers = np.arange(len(self.images))  # their places in the file
        if self.images.shape[1:] != (SIDE, SIDE) or self.labels.ndim != 1 or (self.labels >= len(self.CLASSES)).any():
            raise UserError(f"{root} has {split} images or labels that are not Fashion-MNIST's: fetch it again.")
        if len(self.images) != len(self.labels):
            counts = f"{len(self.images)} {split} images but {len(self.labels)} labels"
            raise UserError(f"{root} has {counts}: fetch Fashion-MNIST again.")

    def only(self, numbers: np.ndarray | slice) -> "IdxImages":
        """Those of them."""
        some = copy.copy(self)
        some.images, some.labels, some.numbers = self.images[numbers], self.labels[numbers], self.numbers[numbers]
        return some

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.labels[index])

    def name(self, image: int) -> bytes:
        """What tells a picture from others: its split, and its place in the file."""
        return f"{self.split}/{self.numbers[image]}".encode()

    def digest(self) -> str:
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()[:32]
