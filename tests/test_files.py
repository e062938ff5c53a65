"""Files are written completely or not at all."""

import errno
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import pytest

from ranger21.system.errors import UserError
from ranger21.system.files import not_written, replacing, sweep, write_atomically

FORK = multiprocessing.get_context("fork")


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_atomically(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as new:
        assert new.suffix == ".png"
        new.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.png"]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/a\.json could not be written \(No such file or directory\)"):
        write_atomically(tmp_path / "nowhere" / "a.json", "{}")


@pytest.mark.parametrize(
    ("numbers", "advice"),
    [
        ((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free disk space"),
        ((errno.EACCES, errno.EPERM, errno.EROFS), "make it writable"),
        ((errno.EISDIR, errno.EIO, errno.ENOENT), "remove the cause"),
    ],
    ids=["space", "permission", "other"],
)
def test_the_advice_after_a_failed_write_fits_the_error(numbers: tuple[int, ...], advice: str) -> None:
    for number in numbers:
        told = not_written(Path("a.json"), OSError(number, os.strerror(number), "other"))
        assert told == (f"a.json could not be written ({os.strerror(number)}): {advice} and run the same command again")
    several = shutil.Error([("a", "b", "Permission denied")])  # an OSError without errno and strerror
    assert "(None)" not in not_written(Path("a.json"), several)


def test_links_and_pipes_are_written_through_and_not_replaced(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real", tmp_path / "link", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    write_atomically(link, "new")
    assert link.is_symlink() and real.read_text() == "new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "new")
    assert os.read(reader, 9) == b"new" and pipe.is_fifo()
    os.close(reader)


def test_parallel_writers_of_one_file_use_separate_temporary_files(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with replacing(path) as one:
        one.write_text("one, ")
        with replacing(path) as other:
            other.write_text("other")
            assert one != other and one.suffix == other.suffix == ".png"
            sweep(tmp_path)
        assert path.read_text() == "other"
        with pytest.raises(ZeroDivisionError), replacing(path):
            raise ZeroDivisionError
        with one.open("a") as file:
            file.write("whole")
    assert path.read_text() == "one, whole" and os.listdir(tmp_path) == ["a.png"]


def test_the_next_writer_of_a_file_removes_what_killed_writers_left(tmp_path: Path) -> None:
    def die(name: str) -> None:
        with replacing(tmp_path / name) as new:
            new.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    mine = {".new-notes", ".new-0123456-a.json", ".new-01234567-b.json"}
    long = "é" * 120 + ".json"
    for name in ("a.json", "a.json", "[a].json", long):
        process = FORK.Process(target=die, args=(name,))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    for name in mine - {".new-01234567-b.json"}:
        (tmp_path / name).touch()
    (tmp_path / ".new-01234567-b.json").mkdir()
    assert len(os.listdir(tmp_path)) == 6  # the second writer of a.json removed the first one's file
    for name in ("a.json", "[a].json", long):
        write_atomically(tmp_path / name, "{}")
    assert set(os.listdir(tmp_path)) == {"a.json", "[a].json", long, *mine}
