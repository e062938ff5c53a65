"""prepare_imagenet.py refuses hostile and damaged archives, and writes nothing outside its target."""

import fcntl
import os
import resource
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.archives import (
    add,
    class_archive,
    contents,
    make_devkit,
    make_few,
    need_readers,
    prepare_by_command,
    prepared_tree,
    refusal_of_prepare,
    write_parquet,
)

from ranger21.downloads.checksums import MD5
from ranger21.downloads.devkit import DEVKIT
from ranger21.downloads.official import TRAIN, VAL, archive_parts
from ranger21.downloads.prepare import prepare

need_readers("scipy", "pyarrow")


@pytest.fixture(scope="module")
def few(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with three + one images each, as folders and as both sources."""
    return make_few(images, tmp_path_factory.mktemp("few"), 3)


@pytest.fixture
def official(few: Path, tmp_path: Path) -> Path:
    """Archives that a test may damage."""
    return Path(shutil.copytree(few / "official", tmp_path / "official"))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


EVIL = {
    "parent": member("../evil.JPEG"),
    "parents": member("n99000000_1/../../../evil.JPEG"),
    "absolute": member("/tmp/evil.JPEG"),
    "folder": member("deep/ILSVRC2012_val_00000001.JPEG"),
    "symlink": member("ILSVRC2012_val_00000001.JPEG", tarfile.SYMTYPE, "/etc/passwd"),
    "hardlink": member("n99000000_77.JPEG", tarfile.LNKTYPE, "/etc/passwd"),
    "device": member("n99000000_78.JPEG", tarfile.CHRTYPE),
    "directory": member("n99000000.tar", tarfile.DIRTYPE),
    "line": member("n99000000_1.JPEG\n"),
    "other": member("README"),
    "other_class": member("n00000001_1.JPEG"),
}


@pytest.mark.parametrize("place", ["train", "inner", "val"])
@pytest.mark.parametrize("kind", EVIL)
def test_no_archive_member_is_written_outside_the_target(kind, place, few, official, tmp_path):
    info = EVIL[kind]
    if place == "inner":
        data = bytearray(class_archive(few / "train" / "n99000000"))
        inner = tmp_path / "inner.tar"
        inner.write_bytes(data)
        with tarfile.open(inner, "a") as tar:
            tar.addfile(info)
        with tarfile.open(official / TRAIN, "w") as tar:
            add(tar, "n99000000.tar", inner.read_bytes())
            for wnid in ("n99000001", "n99000002"):
                add(tar, f"{wnid}.tar", class_archive(few / "train" / wnid))
    else:
        with tarfile.open(official / (TRAIN if place == "train" else VAL), "a") as tar:
            tar.addfile(info)
    before = contents(tmp_path)
    sentence = refusal_of_prepare(official, tmp_path / "out" / "imagenet")
    assert str(official / (VAL if place == "val" else TRAIN)) in sentence and repr(info.name) in sentence
    written = {name: data for name, data in contents(tmp_path).items() if name not in before}
    expected = {f"out/imagenet/.{name.replace('/', '.unfinished/', 1)}": d for name, d in prepared_tree(few).items()}
    assert written.items() <= (expected.items() if place == "inner" else set())


@pytest.mark.parametrize("path", ["../evil_n99000000.JPEG", "/evil_n99000000.JPEG", "a_n9900000.JPEG", "a.JPEG", None])
def test_no_parquet_path_is_written_outside_the_target(path, few, tmp_path):
    source = Path(shutil.copytree(few / "parquet", tmp_path / "parquet"))
    file = source / "data" / "train-00001-of-00002.parquet"
    write_parquet(file, [{"image": {"bytes": b"x", "path": path}, "label": 0}])
    sentence = refusal_of_prepare(source, tmp_path / "out")
    assert str(file) in sentence and repr(path) in sentence
    assert sorted(os.listdir(tmp_path)) == ["parquet"]


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def lose_the_end(path: Path) -> None:
    """Cut an archive exactly after its last member, where tarfile notices nothing."""
    with tarfile.open(path) as tar:
        tar.getmembers()
    os.truncate(path, tar.offset)


def garble_a_header(path: Path) -> None:
    with tarfile.open(path) as tar:
        begin = tar.getmembers()[1].offset
    with open(path, "r+b") as file:
        file.seek(begin + 100)
        file.write(b"garbage")


def fill_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(20480))


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *((name, cut(share)) for name in (TRAIN, VAL, DEVKIT) for share in (0, 0.3, 0.7)),
        *((name, harm) for name in (TRAIN, VAL) for harm in (lose_the_end, garble_a_header, fill_with_zeros)),
    ],
)
def test_error_names_a_damaged_archive_before_anything_is_written(name, harm, official, tmp_path):
    harm(official / name)
    sentence = refusal_of_prepare(official, tmp_path / "out")
    assert sentence.startswith(f"{official / name} is damaged or truncated (") and "Download it again" in sentence
    assert not (tmp_path / "out").exists()


def test_error_names_an_archive_with_a_damaged_inner_archive(official, tmp_path):
    part = archive_parts(official)[1]
    with open(official / TRAIN, "r+b") as file:
        file.seek(part.begin + 100)  # in the first header of the second class
        file.write(b"garbage")
    assert str(official / TRAIN) in refusal_of_prepare(official, tmp_path / "out")
    assert not (tmp_path / "out" / "train").exists()


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_error_names_a_truncated_parquet_file(share, few, tmp_path):
    source = Path(shutil.copytree(few / "parquet", tmp_path / "parquet"))
    file = source / "data" / "validation-00001-of-00002.parquet"
    cut(share)(file)
    assert refusal_of_prepare(source, tmp_path / "out").startswith(f"{file} is damaged or truncated (")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_error_names_a_missing_archive(name, official, tmp_path):
    (official / name).unlink()
    assert name in refusal_of_prepare(official, tmp_path / "out")
    (official / name).mkdir()
    assert str(official / name) in refusal_of_prepare(official, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_error_names_missing_parquet_files(few, tmp_path):
    source = Path(shutil.copytree(few / "parquet" / "data", tmp_path / "parquet"))
    prepare(source, tmp_path / "out", 1)
    assert contents(tmp_path / "out") == prepared_tree(few)
    (source / "train-00001-of-00002.parquet").unlink()
    assert "train-00001-of-00002.parquet" in refusal_of_prepare(source, tmp_path / "other")
    (source / "train-00000-of-00002.parquet").unlink()
    assert "train-*" in refusal_of_prepare(source, tmp_path / "other")
    for file in source.glob("validation*"):
        file.unlink()
    assert "It contains test-00000-of-00001.parquet." in refusal_of_prepare(source, tmp_path / "other")
    assert "no folder" in refusal_of_prepare(tmp_path / "no", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_archives_that_do_not_match_are_refused(few, official, tmp_path):
    wnids = sorted(os.listdir(few / "train"))
    make_devkit(official, wnids, wnids[:2])
    sentence = refusal_of_prepare(official, tmp_path / "out")
    assert "3 validation images" in sentence and "1 to 2" in sentence
    make_devkit(official, wnids[1:], [wnids[1]] * 3)
    assert wnids[0] in refusal_of_prepare(official, tmp_path / "out")
    make_devkit(official, [*wnids, "n99000009"], ["n99000009"] * 3)
    assert "n99000009" in refusal_of_prepare(official, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_refused(few, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    sentence = refusal_of_prepare(few / "official", tmp_path / "out", MD5)  # refused before minutes of checksums
    assert "100.0 kB are free" in sentence and ". Free " in sentence
    assert not (tmp_path / "out").exists()


def test_prepare_continues_after_a_full_disk(few, tmp_path):
    """A limit on file size simulates a full disk."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    done = prepare_by_command(few / "official", tmp_path / "out", "--processes", "2", preexec_fn=limit)
    assert done.returncode == 1 and "error: " in done.stdout and "Free disk space" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    prepare(few / "official", tmp_path / "out", 1)
    assert contents(tmp_path / "out") == prepared_tree(few)


def test_a_target_with_foreign_files_is_refused(few, tmp_path):
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'}" in refusal_of_prepare(few / "official", tmp_path / "file" / "out")
    (tmp_path / "out" / "val").mkdir(parents=True)
    (tmp_path / "out" / "val" / "ILSVRC2012_val_00000001.JPEG").write_text("precious")
    assert "ILSVRC2012_val_00000001.JPEG" in refusal_of_prepare(few / "official", tmp_path / "out")
    assert contents(tmp_path / "out") == {"val/ILSVRC2012_val_00000001.JPEG": b"precious"}


def test_a_second_prepare_of_the_same_target_is_refused(few, tmp_path):
    (tmp_path / "out").mkdir()
    folder = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert "Another process" in refusal_of_prepare(few / "official", tmp_path / "out")
    os.close(folder)
    prepare(few / "official", tmp_path / "out", 1)


@pytest.mark.parametrize(("source", "package"), [("official", "scipy"), ("parquet", "pyarrow")])
def test_error_names_a_missing_package(source, package, few, tmp_path):
    (tmp_path / f"{package}.py").write_text("raise ImportError('not installed')")
    done = prepare_by_command(few / source, tmp_path / "out", path=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert package in done.stdout and "pip install 'ranger21-imagenet[prepare]'" in done.stdout
