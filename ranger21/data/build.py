"""From the configuration of a data set to the data set."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torchvision
from PIL import Image
from torch import nn

from ranger21.config import DataConfig, FashionMNISTConfig, ImageFolderConfig
from ranger21.data import transforms as T
from ranger21.data.layout import (
    DEBIAN_FASHION_MNIST,
    cache_directory,
    class_folders,
    has_fashion_mnist,
    require_image_folders,
)
from ranger21.data.loader import Pictures
from ranger21.data.sample import ensure_sample
from ranger21.errors import UserError


@dataclass
class Data:
    """A data set, ready to be loaded.

    `to_input` turns a uint8 batch on any device into the model's input of `channels` channels; `fingerprint`
    changes when the names or classes of images do (of Fashion-MNIST: when a pixel does).
    """

    train: Pictures
    val: Pictures
    classes: list[str]
    channels: int
    to_input: nn.Module
    fingerprint: str


def prepare_data(config: DataConfig) -> None:
    """Draws or downloads what is missing. To be called by one process before the others open the data."""
    if config.name == "sample":
        ensure_sample(sample_root(config))
    elif config.name == "fashion_mnist":
        fashion_mnist_root(config)


def build_data(config: DataConfig, seed: int) -> Data:
    """Opens the data set. Raises a UserError if it is not there or not what it should be."""
    if isinstance(config, FashionMNISTConfig):
        return _fashion_mnist(config, seed)
    assert isinstance(config, ImageFolderConfig)
    return _image_folders(config, sample_root(config) if config.name == "sample" else Path(config.root or ""), seed)


def sample_root(config: DataConfig) -> Path:
    return Path(config.root) if config.root else cache_directory() / "sample"


def open_image(path: str) -> Image.Image:
    """The decoded picture. Raises a UserError that names the file if it cannot be read whole."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {path} cannot be read ({error}): replace or remove it.") from error


class ClassFolders(torchvision.datasets.ImageFolder):
    """torchvision's, but with the project's own idea of a class folder: hidden ones (.thumbs) are none."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        names = class_folders(Path(directory))
        return names, {name: label for label, name in enumerate(names)}


def _image_folders(config: ImageFolderConfig, root: Path, seed: int) -> Data:
    require_image_folders(root)
    try:
        train, val = (ClassFolders(str(root / split), loader=open_image) for split in ("train", "val"))
    except FileNotFoundError as error:
        raise UserError(f"{root}: {error}") from error
    digest = hashlib.sha256()
    for split, folder in (("train", train), ("val", val)):
        for path, _ in folder.samples:
            digest.update(f"{split}/{Path(path).relative_to(folder.root)}\n".encode())
    return Data(
        train=Pictures(train, T.TrainTransform(config), seed),
        val=Pictures(val, T.EvalTransform(config)),
        classes=train.classes,
        channels=3,
        to_input=T.ToInput(T.IMAGENET_MEAN, T.IMAGENET_STD),
        fingerprint=f"names:{digest.hexdigest()}",
    )


def fashion_mnist_root(config: DataConfig) -> Path:
    """The folder with the four idx files, downloaded into the user's cache if they are nowhere."""
    if config.root:
        return Path(config.root)
    if has_fashion_mnist(DEBIAN_FASHION_MNIST):
        return DEBIAN_FASHION_MNIST
    folder = cache_directory() / "FashionMNIST" / "raw"
    if not has_fashion_mnist(folder):
        try:
            torchvision.datasets.FashionMNIST(str(cache_directory()), download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"Fashion-MNIST could not be downloaded ({error}): install Debian's package dataset-fashion-mnist, or "
                "set data.root to a folder with its four idx files."
            ) from error
    return folder


def _fashion_mnist(config: FashionMNISTConfig, seed: int) -> Data:
    from ranger21.data.idx import IdxPictures

    root = fashion_mnist_root(config)
    train = IdxPictures(root, "train", limit=config.train_images)
    val = IdxPictures(root, "t10k")
    return Data(
        train=Pictures(train, T.ShiftAndFlip(config), seed),
        val=Pictures(val, T.as_is),
        classes=IdxPictures.CLASSES,
        channels=1,
        to_input=T.ToInput(T.FASHION_MNIST_MEAN, T.FASHION_MNIST_STD),
        fingerprint=f"pixels:{train.digest()}{val.digest()}",
    )
