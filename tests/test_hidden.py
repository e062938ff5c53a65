"""Files that operating systems leave beside images are ignored everywhere, and files of other formats are named."""

import logging
import shutil
from collections.abc import Iterator
from logging.handlers import BufferingHandler
from pathlib import Path

import pytest
from support.training import TINY

from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.data.indexing import read_index
from ranger21.data.names import endings, is_hidden, is_image
from ranger21.data.pack import PackRecipe
from ranger21.data.verify import verify
from ranger21.packing.make import make_pack

JUNK = [
    "{c}/._img.JPEG", "{c}/.ipynb_checkpoints/copy.JPEG", "{c}/@eaDir/img.JPEG/SYNOFILE_THUMB_M.jpg", "{c}/Thumbs.db",
    "__MACOSX/{c}/._img.JPEG", "lost+found/a.JPEG", ".ipynb_checkpoints/a.JPEG", "@eaDir/a.JPEG", "._{c}",
    "desktop.ini", "{c}/.DS_Store", "{c}/.hidden.JPEG",
]  # fmt: skip


@pytest.fixture
def littered(images: Path, tmp_path: Path) -> Path:
    """The tiny ImageNet with hidden files of several systems in it."""
    root = shutil.copytree(images, tmp_path / "littered", ignore=shutil.ignore_patterns("*.npz"))
    for split in ("train", "val"):
        for name in JUNK:
            place = root / split / name.format(c="n99000003")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"no picture at all")
    return root


@pytest.fixture
def said() -> Iterator[list[logging.LogRecord]]:
    """The package's log records, whatever other tests have done to the root logger."""
    handler, log = BufferingHandler(1000), logging.getLogger("ranger21")
    log.addHandler(handler)
    yield handler.buffer
    log.removeHandler(handler)


def test_hidden_files_are_ignored_everywhere_with_one_message(images, littered, tmp_path, said):
    clean, other = (compose_config([*TINY, f"data.root={root}"]).data for root in (images, littered))
    one, two = build_data(clean, 0), build_data(other, 0)
    assert (two.fingerprint, two.names, two.classes) == (one.fingerprint, one.names, one.classes)
    clean.prepare()
    assert not said
    other.prepare()
    hidden = ["12 hidden files and folders are ignored (such as " in record.getMessage() for record in said]
    assert hidden == [True, True]
    said.clear()
    other.prepare_validation()  # evaluate.py calls this
    (told,) = [record.getMessage() for record in said]
    assert told.startswith(f"{littered / 'val'}: 12 hidden files and folders are ignored (such as ")
    report = verify(littered, "none", 1)
    assert report["ok"] and len(report["notices"]["hidden"]) == 24
    assert report["splits"] == verify(images, "none", 1)["splits"]
    sources = {"train": two.train.source, "val": two.val.source}
    (tmp_path / "pack" / "@eaDir").mkdir(parents=True)
    assert make_pack(sources, other, PackRecipe(36, "squash", "raw", None, None), tmp_path / "pack", 1)
    assert build_data(compose_config([*TINY, f"data.pack={tmp_path / 'pack'}"]).data, 0).fingerprint == one.fingerprint


def test_files_of_other_formats_and_in_wrong_places_are_named(tmp_path):
    split = tmp_path / "train"
    for name in ("a/1.jpg", "a/2.avif", "b/1.jpg", "b/x/3.AVIF", "b/list.txt", "b/README", "4.jpg", "labels.csv"):
        (split / name).parent.mkdir(parents=True, exist_ok=True)
        (split / name).touch()
    index = read_index(split)
    assert [index.path(i) for i in range(len(index))] == ["a/1.jpg", "b/1.jpg"]
    assert index.left_out == (
        "4 files without an image extension are ignored (2 .avif, 1 .txt, 1 without one; such as a/2.avif)",
        "2 files outside class folders are ignored (4.jpg)",
    )


def test_hidden_names_and_image_names_are_recognized():
    assert all(map(is_hidden, (".a", "._a.JPEG", "@eaDir", "Lost+Found", "THUMBS.DB", "__MACOSX")))
    assert not any(map(is_hidden, ("n01440764", "a.JPEG", "_a", "eaDir", "macosx", "thumbs.db.jpg")))
    assert is_image("a.JPEG") and not is_image("a.avif") and not is_image("jpg")
    assert endings(f"x.{ending}" for ending in "aabcdefg") == "2 .a, 1 .b, 1 .c, 1 .d, 1 .e, ..."
