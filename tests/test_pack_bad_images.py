"""Packs of incomplete datasets: which archives are kept after a repair, and which images are skipped."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from support.packs import JPEG, RAW, file_digests, pack_by_command, sources_of
from support.training import TINY

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.pack import FACTS, stored_facts
from ranger21.data.verify import verify
from ranger21.packing.encoding import pixels_of
from ranger21.packing.make import damaged_shards, make_pack
from ranger21.system.errors import UserError


@pytest.fixture
def root(images: Path, tmp_path: Path) -> Path:
    """Three classes with 24 + 9 images, which a test may damage."""
    for split in ("train", "val"):
        for name in ("n99000000", "n99000001", "n99000002"):
            shutil.copytree(images / split / name, tmp_path / "images" / split / name)
    return tmp_path / "images"


@pytest.fixture
def config(root: Path) -> ImageFolderConfig:
    return compose_config([*TINY, f"data.root={root}"]).data


def times(pack: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in pack.glob("*.tar")}


def pack_into(config: ImageFolderConfig, target: Path, **options: Any) -> bool:
    return make_pack(sources_of(config), config, JPEG, target, 1, **options)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("cure", ["replaced", "removed"])
def test_archives_without_the_bad_image_are_kept(cure, root, config, tmp_path, capsys):
    """An archive holds ten images; the bad one is in the second training archive."""
    pack, bad = tmp_path / "pack", sorted((root / "train" / "n99000001").iterdir())[5]
    good = bad.read_bytes()
    bad.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"replace or remove it; .* Or skip unreadable .* --on-bad-image skip\.$"):
        pack_into(config, pack)
    before = times(pack)
    assert set(before) == {"train-00000.tar"} and not stored_facts(pack)["complete"]
    bad.unlink()
    if cure == "replaced":
        bad.write_bytes(good)
    assert pack_into(config, pack)
    assert times(pack)["train-00000.tar"] == before["train-00000.tar"]
    assert pack_into(config, tmp_path / "anew") and file_digests(pack) == file_digests(tmp_path / "anew")
    if cure == "removed":  # a finished pack is not changed, even if an image is removed
        sorted((root / "train" / "n99000000").iterdir())[0].unlink()
        with pytest.raises(UserError, match=r"has a pack with a different source\. Choose another folder"):
            pack_into(config, pack)


@pytest.mark.usefixtures("small_shards")
def test_a_pack_of_fewer_images_has_no_leftover_archive(root, config, tmp_path, capsys):
    pack = tmp_path / "pack"
    assert pack_into(config, pack)
    facts = stored_facts(pack)
    (pack / FACTS).write_text(json.dumps(facts | {"complete": False}))  # as if killed before the end
    for path in sorted((root / "train" / "n99000000").iterdir())[:5]:
        path.unlink()
    assert pack_into(config, pack)
    assert "2 of 3 finished archives have images that changed or moved" in capsys.readouterr().out
    assert pack_into(config, tmp_path / "anew") and file_digests(pack) == file_digests(tmp_path / "anew")


@pytest.mark.usefixtures("small_shards")
def test_files_of_other_sizes_are_not_added_to_an_unfinished_pack(root, config, tmp_path):
    pack = tmp_path / "pack"
    assert pack_into(config, pack)
    (pack / FACTS).write_text(json.dumps(stored_facts(pack) | {"complete": False}))
    before = file_digests(pack)
    for path in root.rglob("*.JPEG"):
        path.write_bytes(path.read_bytes() + b"of another size")
    with pytest.raises(UserError, match=r"has 4 archives of files with the same names but other sizes\. Choose"):
        pack_into(config, pack)
    assert file_digests(pack) == before


def test_skipped_images_are_recorded_and_reported(root, config, tmp_path, caplog, monkeypatch):
    """Run pack.py: the pack records the skipped images, runs that use it report them, and the rest is correct."""
    monkeypatch.setattr(logging.getLogger("ranger21"), "propagate", True)
    bad = [sorted((root / split / "n99000001").iterdir())[1] for split in ("train", "val")]
    for path in bad:
        path.write_bytes(b"no image")
    pack, overrides = tmp_path / "pack", [*(o for o in TINY if o.startswith("data")), f"data.root={root}"]
    output = pack_by_command(pack, *overrides, "--processes", "1", "--on-bad-image", "skip")
    assert "2 unreadable images are not in the pack (n99000001/" in output and "is complete. " in output
    assert not pack_into(config, pack)
    assert damaged_shards(pack, 1) == []
    skipped = stored_facts(pack)["skipped"]
    assert {split: list(images) for split, images in skipped.items()} == {
        path.parent.parent.name: [f"n99000001/{path.name}"] for path in bad
    }
    assert len(verify(root, "none", 1)["wrong"]["unreadable"]) == 2
    packed = replace(config, pack=str(pack))
    packed.prepare()
    assert "lacks 1 images of train/ that were unreadable" in caplog.text
    caplog.clear()
    packed.prepare_validation()  # as evaluate.py does
    # caplog may receive each message twice
    reported = {message.partition(" that were")[0] for message in caplog.messages}
    assert reported == {f"{pack} lacks 1 images of val/"}
    data = build_data(packed, 0)
    assert (data.skipped, len(data.train), len(data.val)) == (2, 23, 8)
    assert data.names != build_data(config, 0).names
    for path in bad:
        path.unlink()
    without = build_data(config, 0)
    alone = build_data(replace(packed, root=None), 0)
    for split in ("train", "val"):
        one, other = getattr(alone, split).source, getattr(without, split).source
        assert [one.index.path(i) for i in range(len(one))] == [other.index.path(i) for i in range(len(one))]
        assert [one[i][1] for i in range(len(one))] == [other[i][1] for i in range(len(one))]
    some = build_data(replace(packed, root=None, classes=["n99000001", "n99000002"], fraction=0.5), 0)
    one, other = some.train.source, build_data(replace(config, classes=some.classes, fraction=0.5), 0).train.source
    assert [one.index.path(i) for i in range(len(one))] == [other.index.path(i) for i in range(len(other))]


def test_a_class_without_any_readable_image_is_refused(root, config, tmp_path):
    for path in (root / "train" / "n99000001").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"No image of the class n99000001 in .*/train can be read. Replace them"):
        pack_into(config, tmp_path / "pack", skip=True)


@pytest.mark.parametrize("recipe", [JPEG, RAW], ids=["jpeg", "raw"])
def test_webdataset_reads_images_and_labels(recipe, root, config, tmp_path):
    """WebDataset would take same.jpg and same.png, or names with dots, for one sample; the pack renames them."""
    folder = root / "train" / "n99000001"
    first = sorted(folder.iterdir())[0]
    for name in ("same.jpg", "same.png", "same-2.jpg", "a.b.jpg", "a.c.jpg"):
        shutil.copy(first, folder / name)
    assert make_pack(sources_of(config), config, recipe, tmp_path / "pack", 1)
    for split in ("train", "val"):
        data = webdataset.WebDataset(str(tmp_path / "pack" / f"{split}-00000.tar"), shardshuffle=False).decode("rgb8")
        samples = list(data)
        source = getattr(build_data(config, 0), split).source
        assert len(samples) == len(source) == len({sample["__key__"] for sample in samples})
        for image, sample in enumerate(samples):
            path = source.index.path(image)
            pixels = sample["jpg" if recipe is JPEG else "npy"]
            worst = np.abs(pixels.astype(int) - pixels_of(source[image][0], config)).mean()
            assert sample["cls"] == source[image][1] and worst < 4 and not (worst and recipe is RAW)
            assert sample["__key__"].split("/")[0] == path.split("/")[0]
        if split == "train":
            keys = [sample["__key__"] for sample in samples if "/n99" not in sample["__key__"]]
            assert [key.partition("/")[2] for key in keys] == ["a_b", "a_c", "same-2", "same", "same-3"]
