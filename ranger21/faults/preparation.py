"""The data of a campaign: a small set of drawn images, and a pack with the same pixels."""

from __future__ import annotations

from pathlib import Path

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.folders import image_folders
from ranger21.data.pack import PackRecipe
from ranger21.data.sources import FolderSource
from ranger21.faults.setups import TINY
from ranger21.packing.make import make_pack


class Folders:
    """The data folders of a campaign in `work`."""

    def __init__(self, work: Path) -> None:
        self.images, self.pack = work / "images", work / "pack"

    def make_pack(self) -> None:
        """Create the pack unless it exists."""
        config = compose_config([*TINY, f"data.root={self.images}"]).data
        assert isinstance(config, ImageFolderConfig)
        root, indices = image_folders(config)
        sources = {split: FolderSource(root / split, index) for split, index in indices.items()}
        recipe = PackRecipe(config.resize, config.resize_mode, "raw", None, None)
        make_pack(sources, config, recipe, self.pack, 1, False)
