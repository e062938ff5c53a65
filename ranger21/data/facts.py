"""What a run's manifest says of its data."""

from pathlib import Path
from typing import Any

from ranger21.config import DataConfig, ImageFolderConfig
from ranger21.data.build import Data, fashion_mnist_root, image_root


def data_facts(config: DataConfig, data: Data) -> dict[str, Any]:
    """Return what the manifest says of the data: which images, how many, and where they were."""
    counts = {"classes": len(data.classes), "train_images": len(data.train), "val_images": len(data.val)}
    place = named_place(config)
    if not place:
        root = image_root(config) if isinstance(config, ImageFolderConfig) else fashion_mnist_root(config)
        place = {"root": str(root.absolute())}
    if data.holdout is not None:
        counts["holdout_images"] = len(data.holdout)
    held_out = {"held_out": data.held_out} if data.held_out else {}
    kept = {"images_of_class": data.kept} if data.kept else {}
    skipped = {"skipped_by_pack": data.skipped} if data.skipped else {}
    return {"fingerprint": data.fingerprint, "names": data.names} | counts | held_out | place | kept | skipped


def named_place(config: DataConfig) -> dict[str, str]:
    """The folder that the configuration names for the images, as the manifest has it; empty where it names none."""
    if isinstance(config, ImageFolderConfig) and config.pack:
        return {"pack": str(Path(config.pack).absolute())}
    return {"root": str(Path(config.root).absolute())} if config.root else {}
