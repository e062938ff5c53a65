"""Folders in TMPDIR for the sockets of loader processes."""

import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.training import FORKSERVER

from ranger21.data.sockets import MARK, prepare_sockets, sweep_sockets


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short path, because the path of a socket has a maximum length."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def make_and_die(temporary: Path) -> None:
    tempfile.tempdir = str(temporary)
    multiprocessing.current_process()._config.pop("tempdir", None)  # the parent may have passed it on
    prepare_sockets()
    prepare_sockets()
    (own,) = temporary.glob("pymp-*")
    (own / "listener-abc").touch()
    sweep_sockets(temporary)
    assert own.exists()  # its process is alive
    shutil.move(temporary / "others", temporary / "pymp-others")
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_folder_of_the_parents(temporary: Path) -> None:
    assert multiprocessing.current_process()._config["tempdir"] == str(temporary / "pymp-parents")
    tempfile.tempdir = str(temporary)
    prepare_sockets()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_folder_inherited_from_the_parent_is_kept(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in a child process uses its parent's folder, which must not be removed when the child was killed."""
    folder = temporary / "pymp-parents"
    folder.mkdir()
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", str(folder))
    process = multiprocessing.get_context("fork").Process(target=die_in_a_folder_of_the_parents, args=(temporary,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    sweep_sockets(temporary)
    assert folder.exists() and not (folder / MARK).exists()


def test_leftovers_of_a_killed_run_are_removed(temporary: Path) -> None:
    (temporary / "others").mkdir()  # belongs to another program, whose process may be alive
    process = FORKSERVER.Process(target=make_and_die, args=(temporary,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and len(list(temporary.glob(f"*/{MARK}"))) == 1
    mine = temporary / "pymp-mine"
    mine.mkdir()
    (mine / MARK).touch()
    (mine / "notes.txt").touch()
    sweep_sockets(temporary)
    assert sorted(path.name for path in temporary.iterdir()) == ["pymp-mine", "pymp-others"]
