"""Validation images without a training split, for evaluation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.folders import compared_with_source, tell_what_is_left_out, tell_what_was_skipped
from ranger21.data.images import ImageDataset
from ranger21.data.indexing import read_index
from ranger21.data.layout import class_folders
from ranger21.data.sources import FolderSource, PackSource
from ranger21.data.subset import choose_classes, choose_images
from ranger21.data.transforms.base import Transform
from ranger21.system.errors import UserError


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing of images for a model.

    Attributes:
        transform: Transform from a stored image to pixels.
        to_input: Module that converts pixels to the model's input.
        shape: Shape of that input, (channels, height, width).
    """

    transform: Transform
    to_input: nn.Module
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Validation:
    """A validation set, ready to be loaded.

    Attributes:
        dataset: The images.
        classes: Class names by label.
        view: The preprocessing.
        place: Location of the images.
        path: Returns the path of an image from its index.
        left_out: Classes that exist but were not chosen.
    """

    dataset: ImageDataset
    classes: list[str]
    view: Preprocessing
    place: str
    path: Callable[[int], str]
    left_out: list[str] = field(default_factory=list)


def prepare_validation(config: ImageFolderConfig) -> None:
    """Read the folders, or compare the pack with them, and warn about images that are left out."""
    if config.pack:
        compared_with_source(config)
        tell_what_was_skipped(Path(config.pack), ["val"])
    else:
        folder = validation_folder(config)
        tell_what_is_left_out({folder: read_index(folder)})


def open_validation(config: ImageFolderConfig, view: Preprocessing, known: list[str] | None = None) -> Validation:
    """Open the validation images of folders or of a pack, as `DataConfig.open_validation` does."""
    source, place = _source(config)
    names = list(source.index.classes)
    if config.classes is not None:
        wanted = config.classes if known is None else [name for name in names if name in set(known)] or names
        source = _choose(source, choose_classes(names, wanted))
    chosen = set(source.index.classes)
    left_out = [name for name in names if name not in chosen]
    dataset = ImageDataset(source, view.transform, substitute=config.on_bad_image == "substitute")
    return Validation(dataset, list(source.index.classes), view, str(place), source.index.path, left_out)


def _source(config: ImageFolderConfig) -> tuple[FolderSource | PackSource, Path]:
    if config.pack:
        config.require_pack()
        return PackSource(Path(config.pack), "val"), Path(config.pack)
    folder = validation_folder(config)
    return FolderSource(folder, read_index(folder)), folder


def _choose(source: FolderSource | PackSource, classes: list[int]) -> FolderSource | PackSource:
    images = choose_images(source.index, classes, 1.0)
    if isinstance(source, FolderSource):
        return FolderSource(source.split, source.index.select(images, classes))
    source.choose(images, classes)
    return source


def validation_folder(config: ImageFolderConfig) -> Path:
    """Return the folder with the class folders: val/ in data.root, or data.root itself if it has no train/ or val/.

    Raises:
        UserError: If there is no such folder.
    """
    if not config.root and config.default_root() is None:
        raise UserError(
            "There are no images. Set data.root=/path/to/imagenet or the variable IMAGENET_DIR to a folder that "
            "contains val/ or one folder per class."
        )
    root = config.image_root()
    folder = root / "val" if (root / "val").is_dir() or (root / "train").is_dir() else root
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}. data.root must contain val/ or one folder per class.")
    if not class_folders(folder):
        raise UserError(f"{folder} has no class folders. Put the images into one folder per class.")
    return folder
