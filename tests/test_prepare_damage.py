"""Hidden damage: archives with flipped bytes, and prepared images of the wrong size."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from support.archives import contents, make_few, prepared_tree

from ranger21.downloads.checksums import CHECKED, MD5
from ranger21.downloads.devkit import DEVKIT
from ranger21.downloads.official import TRAIN, VAL, archive_parts
from ranger21.downloads.prepare import prepare
from ranger21.system.errors import UserError


@pytest.fixture(scope="module")
def few(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with three + one images each, as folders and as both sources."""
    return make_few(images, tmp_path_factory.mktemp("few"), 2)


def md5s(source: Path) -> dict[str, str]:
    return {name: hashlib.md5((source / name).read_bytes()).hexdigest() for name in (TRAIN, VAL, DEVKIT)}


def images_of(target: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(target).items() if name != CHECKED}


def test_the_published_checksums_are_torchvisions():
    from torchvision.datasets.imagenet import ARCHIVE_META

    assert set(MD5.items()) == set(ARCHIVE_META.values())


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_flipped_bytes_are_found_by_the_checksum(name, few, tmp_path):
    """The bytes are inside an image, where neither tar nor a decoder notices them; nothing is written."""
    source = shutil.copytree(few / "official", tmp_path / "official")
    published = md5s(source)
    part = archive_parts(source)[0 if name == TRAIN else -1]
    with open(source / name, "r+b") as file:
        begin = part.begin + 1024 if name == TRAIN else 1024 if name == VAL else 4  # gzip's header: its time stamp
        file.seek(begin)
        flipped = bytes(byte ^ 1 for byte in file.read(4))
        file.seek(begin)
        file.write(flipped)
    target = tmp_path / "out"
    with pytest.raises(UserError) as caught:
        prepare(source, target, 1, published)
    assert str(caught.value).startswith(f"{source / name} is damaged or not the official archive: its MD5 is ")
    remedy = "Download it again, or use it as it is with --no-checksums."
    assert str(caught.value).endswith(f"not {published[name]}. {remedy}")
    assert set(contents(target)) <= {CHECKED}
    prepare(source, target, 1)  # as --no-checksums does
    assert set(images_of(target)) == set(prepared_tree(few))


def test_verified_archives_are_not_verified_again(few, tmp_path, capsys):
    source, target = shutil.copytree(few / "official", tmp_path / "official"), tmp_path / "out"
    published = md5s(source)
    prepare(source, target, 1, published)
    assert capsys.readouterr().out.count("MD5 verified") == 3
    assert images_of(target) == prepared_tree(few)
    assert set(json.loads((target / CHECKED).read_text())) == {TRAIN, VAL, DEVKIT}
    prepare(source, target, 1, published)
    assert "MD5" not in (out := capsys.readouterr().out) and "Nothing to do" in out  # nothing is read from the archives
    shutil.rmtree(target / "train" / "n99000001")
    os.utime(source / DEVKIT, ns=(time.time_ns(), time.time_ns()))
    prepare(source, target, 1, published)
    out = capsys.readouterr().out
    assert f"{TRAIN}: MD5 already verified" in out and f"{DEVKIT}: MD5 verified" in out
    assert VAL not in out and images_of(target) == prepared_tree(few)
    (target / CHECKED).write_text("[damaged")
    (next((target / "val").rglob("*.JPEG"))).unlink()
    prepare(source, target, 1, published)
    assert f"{VAL}: MD5 verified" in capsys.readouterr().out and images_of(target) == prepared_tree(few)


@pytest.mark.parametrize("source", ["official", "parquet"])
def test_images_of_the_wrong_size_are_written_again(source, few, tmp_path, capsys):
    """Either source replaces empty images; archives, whose headers hold sizes, also replace truncated ones."""
    target, published = tmp_path / "out", md5s(few / "official")  # parquet files have no checksums
    prepare(few / source, target, 1, published)
    damaged = [sorted((target / split).rglob("*.JPEG"))[1] for split in ("train", "val")]
    new_contents = [b"", b"half a pictu" if source == "official" else b""]
    for path, content in zip(damaged, new_contents, strict=True):
        path.write_bytes(content)
    kept = {path: path.stat().st_mtime_ns for path in target.rglob("*.JPEG") if path not in damaged}
    capsys.readouterr()
    prepare(few / source, target, 1, published)
    assert "2 images are empty or have another size in " in capsys.readouterr().out
    assert images_of(target) == prepared_tree(few)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    prepare(few / source, target, 1)
    assert "Nothing to do" in capsys.readouterr().out
