"""Images that are one array in memory. Imports no torch."""

import copy
import hashlib

import numpy as np


class InMemory:
    """The images of one split with their labels.

    Args:
        images: uint8 (images, height, width), or (images, height, width, 3) in color.
        labels: Labels from 0, (images,).
        split: Name of the split, used in the names of images.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, split: str) -> None:
        self.images, self.labels, self.split = images, labels, split
        self.numbers = np.arange(len(images))  # positions in the whole array

    def only(self, numbers: np.ndarray | slice) -> "InMemory":
        """Return a subset of the images, which keep their names."""
        some = copy.copy(self)
        some.images, some.labels, some.numbers = self.images[numbers], self.labels[numbers], self.numbers[numbers]
        return some

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index], int(self.labels[index])

    def name(self, image: int) -> bytes:
        """Return the unique name of an image: its split and its position in the array."""
        return f"{self.split}/{self.numbers[image]}".encode()

    def digest(self) -> str:
        """Return a hash of all pixels and labels."""
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()[:32]
