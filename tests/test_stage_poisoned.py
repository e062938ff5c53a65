"""A changed copy of a pack is found and copied again, and other users cannot change it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.staging import FORK, assert_whole_copy, never_stop

from ranger21.config import ImageFolderConfig
from ranger21.data.copying import REMEMBERED
from ranger21.data.pack import FACTS
from ranger21.data.stage import place, stage
from ranger21.system.errors import UserError

NOBODY = 65534
as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to change the owner of a folder")


def replace_bytes(path: Path) -> None:
    """Overwrite a file with different bytes of the same length, and keep its time stamps."""
    state = path.stat()
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def replace_file(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(len(path.read_bytes())))
    os.replace(other, path)


def replace_by_link(path: Path) -> None:
    """Replace a file with a link to a different file of the same length."""
    elsewhere = path.parents[3] / "elsewhere"
    elsewhere.write_bytes(bytes(path.stat().st_size))
    path.unlink()
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("name", ["train-00001.tar", "val.npz", FACTS])
@pytest.mark.parametrize("poison", [replace_bytes, replace_file, replace_by_link])
def test_other_bytes_of_the_same_size_are_copied_again(
    poison: Callable[[Path], None],
    name: str,
    staged_config: ImageFolderConfig,
) -> None:
    stage(staged_config, never_stop)
    poison(place(staged_config) / name)
    assert stage(staged_config, never_stop) == 0
    assert_whole_copy(staged_config)


def test_a_copy_without_a_record_is_compared_and_kept(
    staged_config: ImageFolderConfig,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Copies of older versions have no record; a recorded copy is not read again."""
    stage(staged_config, never_stop)
    whole = {path.name: path.stat().st_ino for path in place(staged_config).glob("*.tar")}
    for content in ("", "[]", "[" * 100_000, '{"train-00000.tar": 7}'):
        (place(staged_config) / REMEMBERED).write_text(content)
        replace_bytes(place(staged_config) / "train-00002.tar")
        capsys.readouterr()
        assert stage(staged_config, never_stop) == 0
        output = capsys.readouterr().out
        assert "verifying the checksums of" in output and output.count("differs from the pack and is copied again") == 1
        assert_whole_copy(staged_config)
        now = {path.name: path.stat().st_ino for path in place(staged_config).glob("*.tar")}
        assert {name: now[name] for name in now if name != "train-00002.tar"} == {
            name: whole[name] for name in whole if name != "train-00002.tar"
        }
    assert stage(staged_config, never_stop) == 0 and capsys.readouterr().out == ""
    assert set(json.loads((place(staged_config) / REMEMBERED).read_text())) == set(os.listdir(place(staged_config))) - {
        REMEMBERED
    }


def test_a_stopped_comparison_can_be_continued(staged_config: ImageFolderConfig) -> None:
    stage(staged_config, never_stop)
    (place(staged_config) / REMEMBERED).unlink()
    calls = iter(range(10**6))
    assert stage(staged_config, lambda: 143 if next(calls) > 6 else 0) == 143
    assert stage(staged_config, never_stop) == 0
    assert_whole_copy(staged_config)


def test_simultaneous_starts_repair_a_changed_copy(staged_config: ImageFolderConfig) -> None:
    stage(staged_config, never_stop)
    for name in ("train-00000.tar", "val-00000.tar"):
        replace_bytes(place(staged_config) / name)
    ranks = [FORK.Process(target=stage, args=(staged_config, never_stop)) for _ in range(3)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0, 0]
    assert_whole_copy(staged_config)


def make_a_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to("elsewhere")


def make_it_anothers(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)


def make_it_writable_by_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_a_link, "is a link"),
        (lambda folder: folder.write_text("taken"), "is not a folder"),
        (make_it_writable_by_all, "is writable by other users"),
        pytest.param(make_it_anothers, "belongs to another user (user ID 65534)", marks=as_root),
    ],
)
@pytest.mark.parametrize("which", ["own", "copy"])
def test_a_folder_that_others_can_change_is_refused(
    which: str,
    make: Callable[[Path], None],
    words: str,
    staged_config: ImageFolderConfig,
) -> None:
    folder = place(staged_config).parent if which == "own" else place(staged_config)
    folder.parent.mkdir(parents=True, mode=0o700)
    make(folder)
    before = sorted(Path(os.environ["OWN_DISK"]).rglob("*"))
    with pytest.raises(UserError) as caught:
        stage(staged_config, never_stop)
    assert str(caught.value).startswith(str(folder)) and words in str(caught.value)
    assert str(caught.value).endswith("change the copy of a pack. Remove it, or choose another data.stage.")
    assert sorted(Path(os.environ["OWN_DISK"]).rglob("*")) == before


def test_only_the_user_can_access_the_folder_of_copies(staged_config: ImageFolderConfig) -> None:
    disk = Path(os.environ["OWN_DISK"])
    disk.mkdir()
    disk.chmod(0o777)
    with pytest.raises(UserError, match=r"disk lets any user rename .* chmod \+t\.$"):
        stage(staged_config, never_stop)
    disk.chmod(0o1777)
    assert stage(staged_config, never_stop) == 0
    assert place(staged_config).stat().st_mode & 0o777 == place(staged_config).parent.stat().st_mode & 0o777 == 0o700
