"""A folder that looks like a pack, and a local disk to copy it to."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data import copying
from ranger21.data.copying import REMEMBERED
from ranger21.data.pack import FACTS, PackRecipe
from ranger21.data.stage import place
from support.training import TINY

FORK = multiprocessing.get_context("fork")


def make_staged_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFolderConfig:
    """Write a pack of four archives of three pieces each; return a configuration that copies it to a local disk."""
    monkeypatch.setattr(copying, "PIECE", 1000)
    pack = tmp_path / "pack"
    pack.mkdir()
    shards = {}
    for number, name in enumerate(("train-00000.tar", "train-00001.tar", "train-00002.tar", "val-00000.tar")):
        content = np.random.default_rng(number).bytes(2500)
        (pack / name).write_bytes(content)
        shards[name] = {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    splits = {"train": [*shards.values()][:3], "val": [*shards.values()][3:]}
    facts = {
        "version": 1,
        "recipe": vars(PackRecipe(36, "squash", "jpeg", 95, "4:4:4")),
        "source": "s",
        "classes": ["a"],
    }
    (pack / FACTS).write_text(json.dumps(facts | {"complete": True, "splits": splits}))
    for split in splits:
        np.savez(pack / f"{split}.npz", of=split)
    monkeypatch.setenv("OWN_DISK", str(tmp_path / "disk"))
    return compose_config([*TINY, f"data.pack={pack}", "data.stage=$OWN_DISK"]).data


def never_stop() -> int:
    """Return 0: no signal asks the copying to stop."""
    return 0


def shard_contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a pack or its copy, except the copy's own record."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != REMEMBERED}


def assert_whole_copy(config: ImageFolderConfig) -> None:
    """Assert that the copy has the same files as the pack."""
    assert shard_contents(place(config)) == shard_contents(Path(config.pack))
