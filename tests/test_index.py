"""The index of the images: it has torchvision's order, and its cache never returns an outdated one."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from ranger21.data import index_cache
from ranger21.data import indexing as module
from ranger21.data.index import Index
from ranger21.data.index_cache import cache_files
from ranger21.data.indexing import read_index
from ranger21.system.errors import UserError

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
NAMES = [
    "n1/b.JPEG", "n1/a.jpg", "n1/B.Png", "n1/with a space.JPEG", "n1/größe.webp", "n1/.hidden.jpg", "n1/notes.txt",
    "n1/x/2.jpg", "n1/x/1.jpg", "n1/x y/1.jpg", "n1/x-y/1.jpg", "n1/x/deep/er/1.TIFF", "n1/x.jpg/1.bmp", "n1/X/1.jpg",
    "n10/a.jpg", "n 2/a.jpg", "ñ/a.jpg", "N3/a.ppm", ".thumbs/a.jpg",
]  # fmt: skip


def make(split: Path, names: list[str] = NAMES, settled: bool = True) -> Path:
    """Write empty files; if `settled`, make their folders look as if they had not changed for ten minutes."""
    for name in names:
        (split / name).parent.mkdir(parents=True, exist_ok=True)
        (split / name).write_bytes(b"")
    settle(split) if settled else None
    return split


def settle(split: Path) -> None:
    for folder, _, _ in os.walk(split):
        os.utime(folder, ns=(then := time.time_ns() - 60 * 10**9, then))
    time.sleep(0.02)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """The user's cache, in a folder of the test. Folders count as settled at once, because ctime cannot be set back."""
    monkeypatch.setattr(index_cache, "SETTLED_SECONDS", -60)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def walks(monkeypatch) -> list[Path]:
    """The class folders that were read from disk instead of the cache."""
    walked: list[Path] = []
    real = module.walk
    monkeypatch.setattr(module, "walk", lambda top: walked.append(top) or real(top))
    return walked


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def images_of(index: Index) -> list[tuple[str, int]]:
    return [(index.path(i), int(label)) for i, label in enumerate(index.labels)]


def test_the_order_is_that_of_torchvisions_imagefolder(tmp_path):
    split = make(tmp_path / "train")
    for name in (b"n1/\xff\xfe.jpg", b"n1/\xff/1.jpg", b"\xfe/1.jpg"):
        place = split / os.fsdecode(name)
        place.parent.mkdir(exist_ok=True)
        place.touch()
    (split / "n1" / "link.jpg").symlink_to("nowhere")
    (split / "linked").symlink_to(split / "n1" / "x")
    reference = ImageFolder(str(split))
    assert reference.classes[0] == ".thumbs"  # hidden, so this project does not read it as a class
    seen = [(os.path.relpath(path, split), label - 1) for path, label in reference.samples if label]
    expected = [(path, label) for path, label in seen if "/." not in path]  # without hidden files
    assert len(seen) == len(expected) + 1
    index = read_index(split)
    assert list(index.classes) == reference.classes[1:]
    assert images_of(index) == expected and len(index) == len(expected) == len(index.all_paths())
    assert [os.fsdecode(path) for path in index.all_paths()] == [path for path, _ in expected]
    assert index.counts.tolist() == np.bincount([label for _, label in expected]).tolist()
    settle(split)
    for _ in range(2):  # from the folders, and from the cache
        again = read_index(split)
        assert images_of(again) == expected and again.classes == index.classes


def test_the_second_reading_uses_the_cache(tmp_path, walks):
    split = make(tmp_path / "train")
    first = read_index(split)
    assert walks and cache_files(split)[0].exists() and not (tmp_path / "cache").exists()
    walks.clear()
    second = read_index(split)
    assert not walks and images_of(second) == images_of(first) and second.classes == first.classes


CHANGES = {
    "an image more": lambda split: (split / "n1/x/new.jpg").write_bytes(b""),
    "an image less": lambda split: (split / "n1/x/deep/er/1.TIFF").unlink(),
    "another name": lambda split: (split / "n1/a.jpg").rename(split / "n1/c.jpg"),
    "another class": lambda split: (split / "n1/a.jpg").rename(split / "n10/b.jpg"),
    "a folder more": lambda split: make(split, ["n10/sub/1.jpg"], settled=False),
    "a folder less": lambda split: shutil.rmtree(split / "n1/x"),
    "a class more": lambda split: make(split, ["n9/1.jpg"], settled=False),
    "a class less": lambda split: shutil.rmtree(split / "n10"),
    "a class renamed": lambda split: (split / "n10").rename(split / "n11"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("restored", [False, True])
def test_a_change_is_noticed(change, restored, tmp_path, walks):
    """The change is noticed even if modification times are reset afterwards, as rsync -a, tar and copytree do."""
    split = make(tmp_path / "train")
    before = images_of(read_index(split))
    times = {folder: Path(folder).stat().st_mtime_ns for folder, _, _ in os.walk(split)}
    walks.clear()
    CHANGES[change](split)
    for folder, nanoseconds in times.items() if restored else ():
        os.utime(folder, ns=(nanoseconds, nanoseconds)) if Path(folder).exists() else None
    now = read_index(split)
    shutil.rmtree(split.parent / "cache", ignore_errors=True)
    cache_files(split)[0].unlink()
    assert walks and images_of(now) == images_of(read_index(split))
    assert images_of(now) != before
    assert ("n11" in now.classes) == (change == "a class renamed")


def test_a_set_rewritten_in_place_is_read_again(tmp_path, walks):
    """Rewriting changes no folder, so the size of one image per class is checked; one rewritten image may be missed."""
    split = make(tmp_path / "train", ["a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/x/2.jpg"])
    (split / "b" / "gone.jpg").symlink_to("nowhere")
    (split / "a" / "3.jpg").write_bytes(b"12345")
    settle(split)
    for _ in range(2):  # from the folders, and from the cache
        assert read_index(split).sizes.tolist() == [0, 0, 5, 0, -1, 0]
    walks.clear()
    for path in split.rglob("*.jpg"):
        path.write_bytes(b"another picture") if path.exists() else None
    assert read_index(split).sizes.tolist() == [15, 15, 15, 15, -1, 15] and walks


@pytest.mark.parametrize("version", [1, 2])
def test_a_cache_of_an_older_version_is_replaced(version, tmp_path, walks):
    split = make(tmp_path / "train", ["a/1.jpg", "b/1.jpg"])
    expected = read_index(split)
    with np.load(place := cache_files(split)[0]) as arrays:
        facts = json.loads(str(arrays["facts"])) | {"version": version}
        facts["times"] = {name: times[0] for name, times in facts.pop("folders").items()}
        old = {name: arrays[name] for name in ("counts", "paths", "sizes")[: version + 1]}
    with open(place, "wb") as file:
        np.savez(file, facts=np.array(json.dumps(facts)), **old)
    walks.clear()
    assert read_index(split).sizes.tolist() == expected.sizes.tolist() and walks
    walks.clear()
    assert images_of(read_index(split)) == images_of(expected) and not walks


def test_a_recently_changed_folder_is_not_cached(tmp_path, walks, monkeypatch):
    """The time of its last change (ctime) decides, not its modification time."""
    monkeypatch.setattr(index_cache, "SETTLED_SECONDS", 2)
    split = make(tmp_path / "train")
    for _ in range(2):
        walks.clear()
        read_index(split)
        assert walks and not any(place.exists() for place in cache_files(split))


def test_a_damaged_cache_is_replaced(tmp_path, walks):
    split = make(tmp_path / "train", ["n1/a.jpg", "n1/x/b.jpg", "n2/c.jpg"])
    expected = images_of(read_index(split))
    place = cache_files(split)[0]
    whole = place.read_bytes()
    damaged = [whole[:keep] for keep in range(0, len(whole), 97)]
    for at in range(0, len(whole), 23):
        damaged.append(bytes([*whole[:at], whole[at] ^ 0x41, *whole[at + 1 :]]))
    for content in [*damaged, b"", b"<html>", b"\x93NUMPY"]:
        place.write_bytes(content)
        walks.clear()
        assert images_of(read_index(split)) == expected
        if walks:  # otherwise no reader uses the flipped byte
            assert images_of(read_index(split)) == expected and len(walks) == 2
    assert sum(len(content) < len(whole) for content in damaged) > 10


def test_a_copy_of_the_folders_does_not_use_the_originals_cache(tmp_path, walks):
    """The copy has the original's cache and times, but one more image, or one less."""
    split = make(tmp_path / "data" / "train", ["n1/a.jpg", "n1/b.jpg", "n2/c.jpg"])
    read_index(split)
    for change in ("added", "gone"):
        copy = shutil.copytree(tmp_path / "data", tmp_path / change) / "train"
        (copy / "n1/c.jpg").write_bytes(b"") if change == "added" else (copy / "n1/b.jpg").unlink()
        shutil.copystat(split / "n1", copy / "n1")
        expected = {"added": ["n1/a.jpg", "n1/b.jpg", "n1/c.jpg", "n2/c.jpg"], "gone": ["n1/a.jpg", "n2/c.jpg"]}[change]
        assert [path for path, _ in images_of(read_index(copy))] == expected


def test_a_hostile_cache_is_replaced(tmp_path, walks):
    """The cache's paths lead out of the folder, it is compressed, or it claims more elements than it has bytes."""
    split = make(tmp_path / "train", ["n1/a.jpg", "n2/b.jpg"])
    expected = images_of(read_index(split))
    place = cache_files(split)[0]
    with np.load(place) as arrays:
        whole = dict(arrays)
    for path in (b"n1/../../../s", b"/etc/hostname", b"../train/n1/a"):
        hostile = whole | {"paths": np.frombuffer(path + b"\0n2/b.jpg\0", np.uint8), "sizes": np.array([-1, -1])}
        np.savez(place.open("wb"), **hostile)
        assert images_of(read_index(split)) == expected
    np.savez_compressed(place.open("wb"), **whole | {"sizes": np.zeros(10**7, np.int64)})
    assert images_of(read_index(split)) == expected


@pytest.mark.parametrize(
    ("paths", "good"),
    [
        *((text, True) for text in (b"", b"a/b\0", b"a/b..c\0a/...\0", b"..a/b\0")),
        *((text, False) for text in (b"a", b"/a\0", b"a\0/b\0", b"a/../b\0", b"../a\0", b"a/..\0", b"a\0\0", b"\0")),
    ],
)
def test_paths_that_lead_out_of_the_folder_are_detected(paths, good):
    assert bool(Index((), np.array([]), np.frombuffer(paths, np.uint8)).leads_below()) is good


def test_the_cache_of_another_folder_is_not_used(tmp_path, walks):
    train = make(tmp_path / "train", ["n1/a.jpg"])
    val = make(tmp_path / "val", ["n1/b.jpg"])
    moment = train.stat().st_mtime_ns
    for folder in (train, train / "n1", val, val / "n1"):
        os.utime(folder, ns=(moment, moment))
    read_index(train)
    shutil.copy(cache_files(train)[0], cache_files(val)[0])
    assert images_of(read_index(val)) == [("n1/b.jpg", 0)]


@as_root
def test_the_index_of_read_only_data_is_kept_in_the_users_cache(open_folder, monkeypatch, walks):
    split = make(open_folder / "data" / "train")
    (open_folder / "home").mkdir()
    os.chown(open_folder / "home", NOBODY, NOBODY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(open_folder / "home"))
    with nobody():
        first = images_of(read_index(split))
        beside, at_home = cache_files(split)
        assert at_home.exists() and open_folder / "home" in at_home.parents and not beside.exists()
        walks.clear()
        assert images_of(read_index(split)) == first and not walks
    shutil.rmtree(open_folder / "home")
    with nobody():  # no cache can be written
        assert images_of(read_index(split)) == first and walks


@as_root
@pytest.mark.parametrize("closed", ["n1", "n1/x", "n1/x/deep"])
def test_a_folder_without_read_permission_is_named(closed, open_folder):
    split = make(open_folder / "train")
    (split / closed).chmod(0o000)
    with nobody(), pytest.raises(UserError) as caught:
        read_index(split)
    assert str(caught.value).startswith(f"{split / closed}") and "(Permission denied)" in str(caught.value)


@pytest.mark.parametrize(("link", "to"), [("n1/up", "n1"), ("n1/x/up", "n1"), ("n1/x/top", ".")])
def test_a_link_to_a_parent_folder_is_named(link, to, tmp_path):
    split = make(tmp_path / "train", ["n1/a.jpg", "n1/x/b.jpg"])
    (split / link).symlink_to(split / to)
    with pytest.raises(UserError, match=r"is a symbolic link to a folder that contains it\. Remove ") as caught:
        read_index(split)
    assert str(split / link) in str(caught.value)


def test_broken_links_are_indexed_and_left_to_the_reader(tmp_path):
    split = make(tmp_path / "train", ["n1/a.jpg"])
    (split / "n1" / "loop.jpg").symlink_to("loop.jpg")
    (split / "n1" / "gone.jpg").symlink_to("nowhere")
    assert [path for path, _ in images_of(read_index(split))] == ["n1/a.jpg", "n1/gone.jpg", "n1/loop.jpg"]


@pytest.mark.parametrize(
    ("names", "there"),
    [([], ""), (["n2/notes.txt"], ", but 1 .txt"), (["n2/x/1.avif", "n2/2.AVIF", "n2/._3.jpg"], ", but 2 .avif")],
)
def test_an_empty_class_is_named(names, there, tmp_path):
    split = make(tmp_path / "train", ["n1/a.jpg", *names])
    (split / "n2").mkdir(exist_ok=True)
    settle(split)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"n2 has no images \(.jpg, .*\){there}\. Fill it or remove it\.$"):
            read_index(split)
        assert read_index(split, ["n1"]).counts.tolist() == [1, 0]  # a class that is not selected may be empty


def test_select_keeps_the_chosen_images_and_classes(tmp_path):
    index = read_index(make(tmp_path / "train", ["a/1.jpg", "a/2.jpg", "b/1.jpg", "c/1.jpg", "c/2.jpg", "c/3.jpg"]))
    index = replace(index, sizes=np.arange(6))
    part = index.select(np.array([1, 3, 5]), [0, 2])
    assert part.sizes.tolist() == [1, 3, 5]
    assert part.classes == ("a", "c") and part.counts.tolist() == [1, 2]
    assert images_of(part) == [("a/2.jpg", 0), ("c/1.jpg", 1), ("c/3.jpg", 1)]
    everything = index.select(np.arange(6), [0, 1, 2])
    assert images_of(everything) == images_of(index) and everything.classes == index.classes
