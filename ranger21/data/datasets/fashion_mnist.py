"""Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grayscale 28x28 images in 10 classes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ranger21.data.datasets.array import ArrayConfig
from ranger21.data.idx import read_idx
from ranger21.data.in_memory import InMemory
from ranger21.data.layout import cache_directory
from ranger21.system.errors import UserError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SPLITS = {"train": "train", "val": "t10k"}  # our name: prefix of the files
FILES = tuple(f"{split}-{kind}-ubyte" for split in SPLITS.values() for kind in ("images-idx3", "labels-idx1"))


def is_in(folder: Path) -> bool:
    """Return whether a folder contains the four idx files, plain or gzipped."""
    return all((folder / name).exists() or (folder / f"{name}.gz").exists() for name in FILES)


@dataclass
class FashionMNISTConfig(ArrayConfig):
    """The settings of `data=fashion_mnist`. Without a root, Debian's package or else a download is used."""

    CLASSES = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle-boot",
    )  # fmt: skip
    SHAPE, MEAN, STD, TRAIN = (1, 28, 28), (0.2860,), (0.3530,), 60_000
    known_classes = len(CLASSES)

    def found(self) -> Path | None:
        """Return the folder with the files (the root, Debian's folder or the download's), or None if there is none."""
        places = [Path(self.root)] if self.root else [DEBIAN, cache_directory() / "FashionMNIST" / "raw"]
        return next((place for place in places if is_in(place)), None)

    def require(self) -> None:
        if self.root and not self.found():
            names = ", ".join(f"{name}[.gz]" for name in FILES)
            raise UserError(f"data.root={self.root} does not contain Fashion-MNIST: it must have the files {names}.")

    def require_here(self) -> None:
        self.require()
        if not self.found():
            raise UserError("Fashion-MNIST was not found, and is not downloaded here.")

    def folder(self) -> Path:
        """Return the folder with the files, after downloading them into the user's cache if they are missing."""
        if self.root:
            return Path(self.root)
        if folder := self.found():
            return folder
        import torchvision

        try:
            torchvision.datasets.FashionMNIST(str(cache_directory()), download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"Fashion-MNIST could not be downloaded ({error}). Install Debian's package dataset-fashion-mnist, or "
                "set data.root to a folder with its four idx files."
            ) from error
        return cache_directory() / "FashionMNIST" / "raw"

    def read(self, folder: Path, split: str) -> InMemory:
        name = SPLITS[split]
        images, labels = (read_idx(folder / file) for file in FILES if file.startswith(name))
        if images.shape[1:] != self.SHAPE[1:] or labels.ndim != 1 or (labels >= len(self.CLASSES)).any():
            raise UserError(f"{folder} has {name} images or labels that are not Fashion-MNIST's. Download it again.")
        if len(images) != len(labels):
            counts = f"{len(images)} {name} images but {len(labels)} labels"
            raise UserError(f"{folder} has {counts}. Download Fashion-MNIST again.")
        return InMemory(images, labels, name)
