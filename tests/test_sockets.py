"""The folders in TMPDIR with the sockets of loader processes."""

import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SPAWN

from ranger21.data.sockets import MARK, prepare_sockets, sweep_sockets


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A short path: that of a socket is limited."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


def make_and_die(temporary: Path) -> None:
    tempfile.tempdir = str(temporary)
    multiprocessing.current_process()._config.pop("tempdir", None)  # which the parent may have handed down
    prepare_sockets()
    prepare_sockets()
    (own,) = temporary.glob("pymp-*")
    (own / "listener-abc").touch()
    sweep_sockets(temporary)
    assert own.exists()  # its process lives
    shutil.move(temporary / "others", temporary / "pymp-others")
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_run_left_is_swept(temporary: Path) -> None:
    (temporary / "others").mkdir()  # another program's, whose process may live
    process = SPAWN.Process(target=make_and_die, args=(temporary,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and len(list(temporary.glob(f"*/{MARK}"))) == 1
    mine = temporary / "pymp-mine"
    mine.mkdir()
    (mine / MARK).touch()
    (mine / "notes.txt").touch()
    sweep_sockets(temporary)
    assert sorted(path.name for path in temporary.iterdir()) == ["pymp-mine", "pymp-others"]
