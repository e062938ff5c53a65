"""prepare_imagenet.py builds the folders from archives or parquet files, also after kills and losses."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.archives import (
    contents,
    make_archives,
    make_few,
    make_parquet,
    need_readers,
    prepare_arguments,
    prepare_by_command,
    prepared_tree,
)
from support.prepare_killer import KILLER
from support.project import ROOT

from ranger21.downloads.prepare import prepare

need_readers("scipy", "pyarrow")

SOURCES = ("official", "parquet")


def folders(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()}


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


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_tree(source, processes, sources, images, tmp_path):
    done = prepare_by_command(sources / source, tmp_path / "out", "--processes", processes)
    assert done.returncode == 0 and "needs 3." in done.stdout and "free" in done.stdout, done.stdout
    assert contents(tmp_path / "out") == prepared_tree(images)
    assert len(folders(tmp_path / "out")) == 2 + 10 + 10
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    for other in SOURCES:
        again = prepare_by_command(sources / other, tmp_path / "out", "--processes", processes)
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
        process = subprocess.Popen(**prepare_arguments(sources / source, target, "--processes", "2") | quiet)
        time.sleep(delay + random.uniform(0, 0.2))
        process.kill()
        process.wait()
        assert ends_soon(process.pid), "the processes that did the work live on"
        if (target / "train").exists():
            assert {name for name in contents(target) if name.startswith("train")} == {
                name for name in prepared_tree(images) if name.startswith("train")
            }, "half of a split has been seen"
    assert prepare_by_command(sources / source, target, "--processes", "2").returncode == 0
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
