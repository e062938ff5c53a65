"""Preparing and opening of image folders and packs."""

import copy
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ranger21.data import transforms
from ranger21.data.build import Data
from ranger21.data.datasets.image_folder import ImageFolderConfig
from ranger21.data.identity import DataComparison, DataMatch, compare, identify
from ranger21.data.images import ImageDataset
from ranger21.data.index import Index
from ranger21.data.indexing import read_index
from ranger21.data.layout import SPLITS, has_image_folders, require_image_folders
from ranger21.data.pack import FACTS, PackRecipe, read_facts, source_facts
from ranger21.data.selection import choose
from ranger21.data.sources import AGAIN, FolderSource, PackSource
from ranger21.data.subset import digest_of_names
from ranger21.system.errors import UserError
from ranger21.tracking.splits import HOLDOUT

FOLDERS = {"train": "train", "val": "val", HOLDOUT: "train"}  # folder of each split
log = logging.getLogger("ranger21")


def prepare(config: ImageFolderConfig) -> None:
    """Read the folders, or compare the pack with them, and warn about images that are left out."""
    if config.pack:
        compared = compared_with_source(config)
        if compared.match is DataMatch.SAME_NAMES:
            log.warning("data.pack=%s: %s.", config.pack, compared.why)
        tell_what_was_skipped(Path(config.pack), SPLITS)
    else:
        root, indices = image_folders(config)
        tell_what_is_left_out({root / split: index for split, index in indices.items()})


def source_of_pack(config: ImageFolderConfig) -> Path | None:
    """Return the folder with which a pack is compared, or None if it does not exist."""
    root = Path(config.root) if config.root else config.default_root()
    return root if root and has_image_folders(root) else None


def compared_with_source(config: ImageFolderConfig) -> DataComparison:
    """Compare the images of a pack with those of data.root, if it exists; raise a UserError if they differ."""
    root = source_of_pack(config)
    if not root:
        return DataComparison(DataMatch.SAME)
    recorded = source_facts(read_facts(Path(config.pack or "")))
    compared = compare(recorded, identify(image_folders(config)[1]).facts())
    if compared.match is DataMatch.DIFFERENT:
        raise UserError(
            f"data.pack={config.pack} was made of different images from those in {root} now ({compared.why}). Make a "
            "new pack, or use this one alone with data.root=null."
        )
    return compared


def image_folders(config: ImageFolderConfig) -> tuple[Path, dict[str, Index]]:
    """Return the folder and the images of both splits; raise a UserError if a chosen class lacks images in a split."""
    root = config.image_root()
    chosen = require_image_folders(root, config.classes)
    return root, {split: read_index(root / split, chosen) for split in SPLITS}


def tell_what_was_skipped(pack: Path, splits: Iterable[str]) -> None:
    """Warn about images that a pack lacks because they were unreadable."""
    skipped = read_facts(pack).get("skipped", {})
    for split in splits:
        if images := skipped.get(split):
            text = "%s lacks %d images of %s/ that were unreadable when it was made; %s lists them."
            log.warning(text, pack, len(images), split, pack / FACTS)


def tell_what_is_left_out(indices: dict[Path, Index]) -> None:
    """Warn about files that are not used."""
    for folder, index in indices.items():
        for sentence in index.left_out:
            log.warning("%s: %s.", folder, sentence)


def open_images(config: ImageFolderConfig, seed: int) -> Data:
    """Open folders of images, or a pack; `seed` is that of the augmentation."""
    sources, kept = _packed(config) if config.pack else _folders(config)
    train, val = transforms.FRONT_ENDS[config.transforms]
    substitute = config.on_bad_image == "substitute"
    indices = {split: source.index for split, source in sources.items()}
    identity = identify(indices)
    identity = identity.kept_as(kept) if kept else identity
    held = sources.get(HOLDOUT)
    return Data(
        train=ImageDataset(sources["train"], train(config), seed, substitute, config.late(seed)),
        val=ImageDataset(sources["val"], val(config), substitute=substitute),
        classes=list(indices["train"].classes),
        channels=3,
        to_input=config.view().to_input,
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
    facts = config.require_pack()
    compared_with_source(config)
    sources = {split: PackSource(pack, split) for split in SPLITS}
    for split, source in sources.items():
        if list(source.index.classes) != facts["classes"]:
            raise UserError(f"{pack / f'{split}.npz'} and {pack / FACTS} are from different packs: {AGAIN}.")
    chosen = choose(config, {split: source.index for split, source in sources.items()}, str(pack))
    if chosen:
        sources = {split: copy.copy(sources[FOLDERS[split]]) for split in chosen}
        for split, source in sources.items():
            source.choose(*chosen[split])
    # Raw pixels are identical to those that `fast` makes from the files, so the identity stays the same, unless the run
    # would use them before or without the resize.
    same = facts["recipe"]["format"] == "raw" and config.transforms == "fast" and config.begins_with_resize
    return sources, "" if same else str(PackRecipe(**facts["recipe"]))
