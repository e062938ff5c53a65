"""The images of a pack are compared with data.root by names and sizes; those of an old pack by names only."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.packs import JPEG, sources_of
from support.training import TINY

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.identity import DataMatch, compare
from ranger21.data.pack import FACTS
from ranger21.packing.make import make_pack
from ranger21.system.errors import UserError


@pytest.fixture(scope="module")
def config(images: Path) -> ImageFolderConfig:
    return compose_config([*TINY, f"data.root={images}"]).data


@pytest.fixture(scope="module")
def whole(config: ImageFolderConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of all images, which a test must not change."""
    target = tmp_path_factory.mktemp("packs") / "whole"
    assert make_pack(sources_of(config), config, JPEG, target, 1)
    return target


@pytest.fixture(autouse=True)
def log_reaches_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the package's log reach caplog, also after a test that ran a command."""
    monkeypatch.setattr(logging.getLogger("ranger21"), "propagate", True)


def test_images_of_other_sizes_are_refused_except_by_old_packs(config, whole, images, tmp_path, caplog):
    """An old pack recorded no sizes, so it is compared by names only."""
    pack, other = shutil.copytree(whole, tmp_path / "pack"), shutil.copytree(images, tmp_path / "images")
    for path in (other / "train").rglob("*.JPEG"):
        path.write_bytes(path.read_bytes() + b"a few bytes more")
    with pytest.raises(
        UserError, match=r"different images from those in .* \(the files have the same names, but other sizes in bytes"
    ):
        build_data(replace(config, pack=str(pack), root=str(other)), 0)
    facts = json.loads((pack / FACTS).read_text())
    facts |= {"version": 1, "source": facts.pop("names").removeprefix("names:")}
    (pack / FACTS).write_text(json.dumps(facts))
    for split in ("train", "val"):
        with np.load(pack / f"{split}.npz") as arrays:
            kept = {name: arrays[name] for name in arrays if name != "sizes"}
        np.savez(pack / f"{split}.npz", **kept)
    for root in (str(other), config.root, None):
        caplog.clear()
        replace(config, pack=str(pack), root=root).prepare()
        old = build_data(replace(config, pack=str(pack), root=root), 0)
        assert ("sizes were not recorded then" in caplog.text) == bool(root)
    new = build_data(replace(config, pack=str(whole)), 0)
    assert old.fingerprint == old.names == new.names != new.fingerprint
    assert (
        compare({"fingerprint": old.names}, {"fingerprint": new.fingerprint, "names": new.names}).match
        is DataMatch.SAME_NAMES
    )
    assert [old.val.source[i][1] for i in range(30)] == [new.val.source[i][1] for i in range(30)]


def test_an_index_from_a_different_pack_is_refused(config, whole, tmp_path):
    pack = shutil.copytree(whole, tmp_path / "pack")
    with np.load(pack / "val.npz") as arrays:
        other = dict(arrays) | {"classes": np.array(sorted(arrays["classes"].tolist())[::-1])}
    np.savez(pack / "val.npz", **other)
    with pytest.raises(UserError, match=r"val.npz and .*pack.json are from different packs: repeat the command"):
        build_data(replace(config, pack=str(pack), root=None), 0)
