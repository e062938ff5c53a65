"""prepare_imagenet.py builds the folders from archives or parquet files, whatever they hold and despite kills."""

import fcntl
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.archives import (
    add,
    class_archive,
    contents,
    make_archives,
    make_devkit,
    make_few,
    make_parquet,
    prepared_tree,
    write_parquet,
)
from support.project import ROOT

from ranger21.data.archives import DEVKIT, TRAIN, VAL, archive_parts
from ranger21.data.checksums import MD5
from ranger21.data.prepare import prepare
from ranger21.system.errors import UserError

HOW = "needs the packages that read the archives: pip install -e '.[prepare]'"
pytest.importorskip("scipy", reason=HOW)
pytest.importorskip("pyarrow", reason=HOW)

SOURCES = ("official", "parquet")

# Kill prepare() before its first, second, ... change in the target, each time in a new target, and run it again.
# A file that is about to be written is then half written.
KILLER = """
import os, signal, sys
from itertools import count
from pathlib import Path
import pyarrow.parquet, scipy.io
from ranger21.data.prepare import prepare

source, targets = Path(sys.argv[1]), Path(sys.argv[2])
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")

def run(target, moment):
    left = moment
    def hook(event, args):
        nonlocal left
        writes = event == "open" and str(args[0]).endswith(".unfinished")
        if writes or event in CHANGES and str(args[0]).startswith(str(target)):
            left -= 1
            if left == 0:
                if writes:
                    with open(os.open(args[0], os.O_WRONLY | os.O_CREAT, 0o666), "wb") as file:
                        file.write(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
    if (pid := os.fork()) == 0:
        sys.addaudithook(hook)
        prepare(source, target, 1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]

for moment in count(1):
    status = run(targets / str(moment), moment)
    if status == 0:
        break
    assert status == signal.SIGKILL, status
    assert run(targets / str(moment), 0) == 0
while (status := run(targets / "again", 9)) != 0:  # one target is killed again and again
    assert status == signal.SIGKILL, status
"""


def folders(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()}


def arguments(*args: str | Path, path: str = "") -> dict[str, Any]:
    """Return arguments for subprocess: the command without checksums, as the archives are not the official ones."""
    return {
        "args": [sys.executable, str(ROOT / "scripts" / "prepare_imagenet.py"), *map(str, args), "--no-checksums"],
        "env": os.environ | {"PYTHONPATH": path},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


def command(*args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    path = options.pop("path", "")
    return subprocess.run(**arguments(*args, path=path), timeout=60, **options)


@pytest.fixture(scope="module")
def sources(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny ImageNet as official/ and parquet/."""
    folder = tmp_path_factory.mktemp("sources")
    make_archives(images, folder / "official")
    make_parquet(images, folder / "parquet")
    return folder


@pytest.fixture(scope="module")
def few(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with three + one images each, as folders and as both sources."""
    return make_few(images, tmp_path_factory.mktemp("few"), 3)


@pytest.fixture
def official(few: Path, tmp_path: Path) -> Path:
    """Archives that a test may damage."""
    return Path(shutil.copytree(few / "official", tmp_path / "official"))


def refused(source: Path, target: Path, published: dict[str, str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        prepare(source, target, 1, published)
    assert str(caught.value).endswith((".", "'"))
    return str(caught.value)


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_tree(source, processes, sources, images, tmp_path):
    done = command(sources / source, tmp_path / "out", "--processes", processes)
    assert done.returncode == 0 and "needs 3." in done.stdout and "free" in done.stdout, done.stdout
    assert contents(tmp_path / "out") == prepared_tree(images)
    assert len(folders(tmp_path / "out")) == 2 + 10 + 10
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    for other in SOURCES:
        again = command(sources / other, tmp_path / "out", "--processes", processes)
        assert again.returncode == 0 and "Nothing to do" in again.stdout and "needs" not in again.stdout, again.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.parametrize("source", SOURCES)
def test_prepare_continues_after_a_kill_before_any_change(source, few, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLER, str(few / source), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    targets = list(tmp_path.iterdir())
    assert len(targets) > 30
    for target in targets:
        assert contents(target) == prepared_tree(few), target
        assert folders(target) == {"train", "val", *(str(Path(name).parent) for name in prepared_tree(few))}


@pytest.mark.parametrize("source", SOURCES)
def test_the_command_continues_after_a_kill_with_worker_processes(source, sources, images, tmp_path):
    target = tmp_path / "out"
    for delay in (0.5, 0.9):
        quiet = {"stdout": subprocess.DEVNULL, "start_new_session": True}
        process = subprocess.Popen(**arguments(sources / source, target, "--processes", "2") | quiet)
        time.sleep(delay + random.uniform(0, 0.2))
        process.kill()
        process.wait()
        assert ends_soon(process.pid), "the processes that did the work live on"
        if (target / "train").exists():
            assert {name for name in contents(target) if name.startswith("train")} == {
                name for name in prepared_tree(images) if name.startswith("train")
            }, "half of a split has been seen"
    assert command(sources / source, target, "--processes", "2").returncode == 0
    assert contents(target) == prepared_tree(images)


def ends_soon(group: int) -> bool:
    """Return whether a process group ends within seconds; kill it if not."""
    try:
        for _ in range(100):
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("first", SOURCES)
def test_missing_images_are_restored(first, few, tmp_path, capsys):
    """A class, an image or a split is restored from either source, whichever source was used first."""
    target = tmp_path / "out"
    prepare(few / first, target, 1)
    for second in SOURCES:
        shutil.rmtree(target / "train" / "n99000001")
        next((target / "train" / "n99000002").iterdir()).unlink()
        next((target / "val").rglob("*.JPEG")).unlink()
        kept = {path: path.stat().st_mtime_ns for path in target.rglob("*.JPEG")}
        prepare(few / second, target, 1)
        assert contents(target) == prepared_tree(few)
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
    shutil.rmtree(target / "val")
    capsys.readouterr()
    prepare(few / first, target, 1)
    need = float(capsys.readouterr().out.partition("needs ")[2].split()[0])
    assert need < 200, "kB: the training images were there"
    assert contents(target) == prepared_tree(few)


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
    sentence = refused(official, tmp_path / "out" / "imagenet")
    assert str(official / (VAL if place == "val" else TRAIN)) in sentence and repr(info.name) in sentence
    written = {name: data for name, data in contents(tmp_path).items() if name not in before}
    expected = {f"out/imagenet/.{name.replace('/', '.unfinished/', 1)}": d for name, d in prepared_tree(few).items()}
    assert written.items() <= (expected.items() if place == "inner" else set())


@pytest.mark.parametrize("path", ["../evil_n99000000.JPEG", "/evil_n99000000.JPEG", "a_n9900000.JPEG", "a.JPEG", None])
def test_no_parquet_path_is_written_outside_the_target(path, few, tmp_path):
    source = Path(shutil.copytree(few / "parquet", tmp_path / "parquet"))
    file = source / "data" / "train-00001-of-00002.parquet"
    write_parquet(file, [{"image": {"bytes": b"x", "path": path}, "label": 0}])
    sentence = refused(source, tmp_path / "out")
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
    sentence = refused(official, tmp_path / "out")
    assert sentence.startswith(f"{official / name} is damaged or truncated (") and "Download it again" in sentence
    assert not (tmp_path / "out").exists()


def test_error_names_an_archive_with_a_damaged_inner_archive(official, tmp_path):
    part = archive_parts(official)[1]
    with open(official / TRAIN, "r+b") as file:
        file.seek(part.begin + 100)  # in the first header of the second class
        file.write(b"garbage")
    assert str(official / TRAIN) in refused(official, tmp_path / "out")
    assert not (tmp_path / "out" / "train").exists()


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_error_names_a_truncated_parquet_file(share, few, tmp_path):
    source = Path(shutil.copytree(few / "parquet", tmp_path / "parquet"))
    file = source / "data" / "validation-00001-of-00002.parquet"
    cut(share)(file)
    assert refused(source, tmp_path / "out").startswith(f"{file} is damaged or truncated (")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_error_names_a_missing_archive(name, official, tmp_path):
    (official / name).unlink()
    assert name in refused(official, tmp_path / "out")
    (official / name).mkdir()
    assert str(official / name) in refused(official, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_error_names_missing_parquet_files(few, tmp_path):
    source = Path(shutil.copytree(few / "parquet" / "data", tmp_path / "parquet"))
    prepare(source, tmp_path / "out", 1)
    assert contents(tmp_path / "out") == prepared_tree(few)
    (source / "train-00001-of-00002.parquet").unlink()
    assert "train-00001-of-00002.parquet" in refused(source, tmp_path / "other")
    (source / "train-00000-of-00002.parquet").unlink()
    assert "train-*" in refused(source, tmp_path / "other")
    for file in source.glob("validation*"):
        file.unlink()
    assert TRAIN in refused(source, tmp_path / "other") and "no folder" in refused(tmp_path / "no", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_archives_that_do_not_match_are_refused(few, official, tmp_path):
    wnids = sorted(os.listdir(few / "train"))
    make_devkit(official, wnids, wnids[:2])
    assert "3 images" in (sentence := refused(official, tmp_path / "out")) and "1 to 2" in sentence
    make_devkit(official, wnids[1:], [wnids[1]] * 3)
    assert wnids[0] in refused(official, tmp_path / "out")
    make_devkit(official, [*wnids, "n99000009"], ["n99000009"] * 3)
    assert "n99000009" in refused(official, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_refused(few, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    sentence = refused(few / "official", tmp_path / "out", MD5)  # refused before minutes of checksums
    assert "100.0 kB are free" in sentence and ". Free " in sentence
    assert not (tmp_path / "out").exists()


def test_prepare_continues_after_a_full_disk(few, tmp_path):
    """A limit on file size simulates a full disk."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    done = command(few / "official", tmp_path / "out", "--processes", "2", preexec_fn=limit)
    assert done.returncode == 1 and "error: " in done.stdout and "Free disk space" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    prepare(few / "official", tmp_path / "out", 1)
    assert contents(tmp_path / "out") == prepared_tree(few)


def test_a_target_with_foreign_files_is_refused(few, tmp_path):
    (tmp_path / "file").write_text("")
    assert f"{tmp_path / 'file'}" in refused(few / "official", tmp_path / "file" / "out")
    (tmp_path / "out" / "val").mkdir(parents=True)
    (tmp_path / "out" / "val" / "ILSVRC2012_val_00000001.JPEG").write_text("precious")
    assert "ILSVRC2012_val_00000001.JPEG" in refused(few / "official", tmp_path / "out")
    assert contents(tmp_path / "out") == {"val/ILSVRC2012_val_00000001.JPEG": b"precious"}


def test_a_second_prepare_of_the_same_target_is_refused(few, tmp_path):
    (tmp_path / "out").mkdir()
    folder = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert "Another process" in refused(few / "official", tmp_path / "out")
    os.close(folder)
    prepare(few / "official", tmp_path / "out", 1)


@pytest.mark.parametrize(("source", "package"), [("official", "scipy"), ("parquet", "pyarrow")])
def test_error_names_a_missing_package(source, package, few, tmp_path):
    (tmp_path / f"{package}.py").write_text("raise ImportError('not installed')")
    done = command(few / source, tmp_path / "out", path=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert package in done.stdout and "pip install 'ranger21-imagenet[prepare]'" in done.stdout
