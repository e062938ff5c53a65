"""From the configuration of a data set to the data set."""

import copy
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from ranger21.config import DataConfig, FashionMNISTConfig, ImageFolderConfig
from ranger21.data import on_device, transforms
from ranger21.data.identity import Agreement, DataComparison, compare, identify
from ranger21.data.idx import IdxImages
from ranger21.data.images import ImageDataset
from ranger21.data.imbalance import Thinned, choose_zipf
from ranger21.data.index import Index
from ranger21.data.indexing import read_index
from ranger21.data.layout import (
    SPLITS,
    cache_directory,
    find_fashion_mnist,
    has_image_folders,
    require_data,
    require_image_folders,
)
from ranger21.data.pack import FACTS, PackRecipe, read_facts, require_pack, source_facts
from ranger21.data.sample import ensure_sample
from ranger21.data.selection import choose, choose_of_array, names_of_array
from ranger21.data.sources import AGAIN, FolderSource, PackSource
from ranger21.data.subset import digest_of_names
from ranger21.system.errors import UserError
from ranger21.tracking.splits import HOLDOUT, watched

FOLDERS = {"train": "train", "val": "val", HOLDOUT: "train"}  # where the images of a split lie
log = logging.getLogger("ranger21")


@dataclass
class Data:
    """A data set, ready to be loaded.

    `holdout` are images of the training split that are not trained on. `to_input` turns a uint8 batch on any device,
    and what is left to be done to it, into the model's input of `channels` channels; `fingerprint` changes when the
    names, classes or sizes in bytes of images do, or how a pack keeps them (of Fashion-MNIST: when a pixel does),
    `names` when the names or classes do: `ranger21.data.identity` compares them with what was recorded.
    """

    train: ImageDataset
    val: ImageDataset
    classes: list[str]
    channels: int
    to_input: nn.Module
    fingerprint: str
    names: str
    kept: dict[str, int] | None = field(default=None, init=False)  # images of each class, with data.imbalance
    skipped: int = 0  # images of both splits that a pack lacks, because they could not be read when it was made
    holdout: ImageDataset | None = None
    held_out: str = ""  # a hash of the names of those in it

    @property
    def watched(self) -> str:
        """The split that is validated on before a run's end."""
        return watched(self.holdout is not None)

    @property
    def counts(self) -> str:
        """How many images there are for training and for validation."""
        held = "" if self.holdout is None else f" + {len(self.holdout):,} held out"
        return f"{len(self.train):,}{held} + {len(self.val):,}"

    def validated(self, split: str) -> ImageDataset:
        """The images of that split."""
        return self.holdout if split == HOLDOUT and self.holdout is not None else self.val


def prepare_data(config: DataConfig) -> None:
    """Draw or download what is missing, and read the folders. To be called by one process before the others."""
    if isinstance(config, FashionMNISTConfig):
        fashion_mnist_root(config)
    elif isinstance(config, ImageFolderConfig) and config.pack:
        compared = compared_with_source(config)
        if compared.agreement is Agreement.SAME_NAMES:
            log.warning("data.pack=%s: %s.", config.pack, compared.why)
        tell_what_was_skipped(Path(config.pack), SPLITS)
    elif isinstance(config, ImageFolderConfig):
        if config.name == "sample":
            ensure_sample(image_root(config))
        root, indices = image_folders(config)
        tell_what_is_left_out({root / split: index for split, index in indices.items()})


def build_data(config: DataConfig, seed: int) -> Data:
    """Open the data set. Raises a UserError if it is not there or not what it should be."""
    if isinstance(config, FashionMNISTConfig):
        return _imbalanced(_fashion_mnist(config, seed), config, seed)
    assert isinstance(config, ImageFolderConfig)
    return _imbalanced(_images(config, seed), config, seed)


def _imbalanced(data: Data, config: DataConfig, seed: int) -> Data:
    """The data with the training images that data.imbalance leaves; its fingerprint is of all of them."""
    if config.imbalance is None:
        return data
    source: Any = data.train.source
    name = source.name if isinstance(source, IdxImages) else source.index.all_paths().__getitem__
    chosen, kept = choose_zipf(source.labels, name, data.classes, config.imbalance, seed)
    data.train.source, data.kept = Thinned(source, chosen), kept
    return data


def build_if_there(config: DataConfig, seed: int) -> Data:
    """Open the data set, but draw and download nothing. Raises a UserError if it is not there."""
    require_data(config)
    if isinstance(config, FashionMNISTConfig) and not find_fashion_mnist(config.root):
        raise UserError("Fashion-MNIST is not here.")
    return build_data(config, seed)


def image_root(config: DataConfig) -> Path:
    """The folder with train/ and val/."""
    return cache_directory() / "sample" if config.name == "sample" and not config.root else Path(config.root or "")


def source_of_pack(config: ImageFolderConfig) -> Path | None:
    """The folder with which a pack is compared, if it is there."""
    root = image_root(config) if config.root or config.name == "sample" else None
    return root if root and has_image_folders(root) else None


def compared_with_source(config: ImageFolderConfig) -> DataComparison:
    """How the images of a pack compare with those of data.root, if that is there. Raises a UserError if they differ."""
    root = source_of_pack(config)
    if not root:
        return DataComparison(Agreement.SAME)
    recorded = source_facts(read_facts(Path(config.pack or "")))
    compared = compare(recorded, identify(image_folders(config)[1]).facts())
    if compared.agreement is Agreement.DIFFERENT:
        raise UserError(
            f"data.pack={config.pack} was made of other images than {root} has now ({compared.why}): make a new pack, "
            "or use this one by itself with data.root=null."
        )
    return compared


def image_folders(config: ImageFolderConfig) -> tuple[Path, dict[str, Index]]:
    """The folder, and all images of both splits. Raises a UserError unless both have images of every chosen class."""
    root = image_root(config)
    chosen = require_image_folders(root, config.classes)
    return root, {split: read_index(root / split, chosen) for split in SPLITS}


def tell_what_was_skipped(pack: Path, splits: Iterable[str]) -> None:
    skipped = read_facts(pack).get("skipped", {})
    for split in splits:
        if images := skipped.get(split):
            text = "%s lacks %d images of %s/ that could not be read when it was made; %s lists them."
            log.warning(text, pack, len(images), split, pack / FACTS)


def tell_what_is_left_out(indices: dict[Path, Index]) -> None:
    for folder, index in indices.items():
        for sentence in index.left_out:
            log.warning("%s: %s.", folder, sentence)


def _images(config: ImageFolderConfig, seed: int) -> Data:
    sources, kept = _packed(config) if config.pack else _folders(config)
    train, val = transforms.FRONT_ENDS[config.transforms]
    substitute = config.on_bad_image == "substitute"
    indices = {split: source.index for split, source in sources.items()}
    identity = identify(indices)
    identity = identity.kept_as(kept) if kept else identity
    held = sources.get(HOLDOUT)
    return Data(
        train=ImageDataset(sources["train"], train(config), seed, substitute),
        val=ImageDataset(sources["val"], val(config), substitute=substitute),
        classes=list(indices["train"].classes),
        channels=3,
        to_input=on_device.ToInput(on_device.IMAGENET_MEAN, on_device.IMAGENET_STD),
        skipped=sum(getattr(sources[split], "skipped", 0) for split in SPLITS),
        holdout=ImageDataset(held, val(config), substitute=substitute) if held else None,
        held_out=digest_of_names(held.index.all_paths()) if held else "",
        **identity.facts(),
    )


def _folders(config: ImageFolderConfig) -> tuple[dict[str, Any], str]:
    root, indices = image_folders(config)
    chosen = choose(config, indices, str(root))
    if chosen:
        indices = {split: indices[FOLDERS[split]].select(*what) for split, what in chosen.items()}
    return {split: FolderSource(root / FOLDERS[split], index) for split, index in indices.items()}, ""


def _packed(config: ImageFolderConfig) -> tuple[dict[str, Any], str]:
    pack = Path(config.pack or "")
    facts = require_pack(pack, config.resize, config.resize_mode)
    compared_with_source(config)
    sources = {split: PackSource(pack, split) for split in SPLITS}
    for split, source in sources.items():
        if list(source.index.classes) != facts["classes"]:
            raise UserError(f"{pack / f'{split}.npz'} is of another pack than {pack / FACTS}: {AGAIN}.")
    chosen = choose(config, {split: source.index for split, source in sources.items()}, str(pack))
    if chosen:
        sources = {split: copy.copy(sources[FOLDERS[split]]) for split in chosen}
        for split, source in sources.items():
            source.choose(*chosen[split])
    # Raw pixels are what `fast` makes of the files themselves: the two can stand for each other.
    same = facts["recipe"]["format"] == "raw" and config.transforms == "fast"
    return sources, "" if same else str(PackRecipe(**facts["recipe"]))


def fashion_mnist_root(config: DataConfig) -> Path:
    """The folder with the four idx files, downloaded into the user's cache if they are nowhere."""
    if config.root:
        return Path(config.root)
    folder = find_fashion_mnist(None)
    if not folder:
        folder = cache_directory() / "FashionMNIST" / "raw"
        try:
            torchvision.datasets.FashionMNIST(str(cache_directory()), download=True)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"Fashion-MNIST could not be downloaded ({error}): install Debian's package dataset-fashion-mnist, or "
                "set data.root to a folder with its four idx files."
            ) from error
    return folder


def _fashion_mnist(config: FashionMNISTConfig, seed: int) -> Data:
    root = fashion_mnist_root(config)
    train, held = IdxImages(root, "train"), None
    if config.holdout:
        numbers = choose_of_array(config, train.labels, IdxImages.CLASSES)
        train, held = (train.only(numbers[split]) for split in ("train", HOLDOUT))
    else:
        train = train.only(slice(config.train_images))
    val = IdxImages(root, "t10k")
    pixels = f"pixels:{train.digest()}{val.digest()}" + (held.digest() if held else "")
    return Data(
        train=ImageDataset(train, transforms.ShiftAndFlip(config), seed),
        val=ImageDataset(val, transforms.AsIs()),
        classes=IdxImages.CLASSES,
        channels=1,
        to_input=on_device.ToInput(on_device.FASHION_MNIST_MEAN, on_device.FASHION_MNIST_STD),
        fingerprint=pixels,
        names=pixels,
        holdout=ImageDataset(held, transforms.AsIs()) if held else None,
        held_out=digest_of_names(names_of_array(numbers[HOLDOUT])) if held else "",
    )
