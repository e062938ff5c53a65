"""The data section of a run's manifest."""

from typing import Any

from ranger21.data.build import Data
from ranger21.data.datasets.base import DataConfig


def data_facts(config: DataConfig, data: Data) -> dict[str, Any]:
    """Return the data section of the manifest: identity, number and location of the images."""
    counts = {"classes": len(data.classes), "train_images": len(data.train), "val_images": len(data.val)}
    place = config.named_place() or {"root": str(config.folder().absolute())}
    if data.holdout is not None:
        counts["holdout_images"] = len(data.holdout)
    held_out = {"held_out": data.held_out} if data.held_out else {}
    kept = {"images_of_class": data.kept} if data.kept else {}
    skipped = {"skipped_by_pack": data.skipped} if data.skipped else {}
    return {"fingerprint": data.fingerprint, "names": data.names} | counts | held_out | place | kept | skipped
