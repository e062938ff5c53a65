"""A run directory that is renamed or removed, or loses files, during the run."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import pytest
from support.training import FORKSERVER

from ranger21.records.checkpoint import Checkpoints
from ranger21.records.directory import RunDirectory, in_use
from ranger21.records.presence import Presence
from ranger21.system.errors import UserError
from ranger21.system.terminal import log_to_file
from ranger21.tracking.jsonl import JsonLines, require_lines


@pytest.fixture
def place(tmp_path: Path) -> RunDirectory:
    """A run directory that this process has locked."""
    place = RunDirectory(tmp_path / "run")
    place.path.mkdir()
    place._take_lock()
    return place


@pytest.fixture
def lines(place: RunDirectory) -> JsonLines:
    lines = JsonLines(place.metrics, 0)
    lines.log({"step": 1})
    return lines


def test_an_unchanged_directory_is_left_alone(place: RunDirectory, lines: JsonLines) -> None:
    presence = Presence(place, lines)
    assert presence.place_now() is place
    presence.require_in_place(place, 1)
    assert sorted(path.name for path in place.path.iterdir()) == [".lock", "metrics.jsonl"]


def test_error_names_the_new_place_of_a_renamed_directory(place: RunDirectory, lines: JsonLines) -> None:
    presence, there = Presence(place, lines), place.path.with_name("moved")
    place.path.rename(there)
    now = presence.place_now()
    assert now.path == there and not place.path.exists()
    with pytest.raises(
        UserError, match=r"run was renamed to .*moved .* of step 5 was saved there: rename the directory back"
    ):
        presence.require_in_place(now, 5)
    place.path.mkdir()  # a new directory with the old name is not the run's
    assert presence.place_now().path == there


def test_a_checkpoint_is_saved_although_its_directory_is_being_renamed(place: RunDirectory, lines: JsonLines) -> None:
    presence, there = Presence(place, lines), place.path.with_name("moved")
    seen: list[Path] = []

    def save(where: RunDirectory) -> None:
        seen.append(where.path)
        if place.path.exists():
            place.path.rename(there)
        Checkpoints(where.checkpoints).save({"model": {}})

    with pytest.raises(
        UserError, match=r"run was renamed to .*moved .* of step 5 was saved there: rename the directory back"
    ):
        presence.write(save, 5)
    assert seen == [place.path, there] and not place.path.exists()
    assert (there / "checkpoints" / "last.pt").exists()


def test_an_error_while_writing_is_raised_unchanged(place: RunDirectory, lines: JsonLines) -> None:
    def fail(where: RunDirectory) -> None:
        raise UserError("no room")

    with pytest.raises(UserError, match="no room"):
        Presence(place, lines).write(fail, 5)


def test_a_removed_directory_is_reported(place: RunDirectory, lines: JsonLines) -> None:
    presence = Presence(place, lines)
    shutil.rmtree(place.path)
    for _ in range(2):
        with pytest.raises(UserError, match="run was removed or renamed during the run, and nothing more can"):
            presence.place_now()
        place.path.mkdir(exist_ok=True)


def test_deleted_metrics_are_restored(place: RunDirectory, lines: JsonLines) -> None:
    presence = Presence(place, lines)
    place.metrics.unlink()
    presence.place_now()
    lines.log({"step": 2})
    assert place.metrics.read_text() == '{"step": 1}\n{"step": 2}\n' and lines.size == place.metrics.stat().st_size


def test_a_deleted_log_is_restored(place: RunDirectory, lines: JsonLines) -> None:
    log, presence = logging.getLogger("ranger21"), Presence(place, lines)
    before = list(log.handlers)
    log_to_file(place.log)
    try:
        log.warning("the first line")
        place.log.unlink()
        presence.place_now()
        log.warning("the last line")
        logged = [line.split(" WARNING ")[1] for line in place.log.read_text().splitlines()]
        assert [logged[0], logged[-1]] == ["the first line", "the last line"]
        assert "was removed during the run" in logged[1]
    finally:
        log.handlers = before


def test_the_log_of_a_different_run_is_left_alone(place: RunDirectory, lines: JsonLines, tmp_path: Path) -> None:
    log = logging.getLogger("ranger21")
    before = list(log.handlers)
    log_to_file(tmp_path / "other.txt")
    try:
        Presence(place, lines).place_now()
        assert not place.log.exists()
    finally:
        log.handlers = before


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_that_replaced_the_metrics_is_kept(folder: bool, place: RunDirectory, lines: JsonLines) -> None:
    presence = Presence(place, lines)
    place.metrics.unlink()
    place.metrics.mkdir() if folder else place.metrics.write_text("mine")
    presence.place_now()
    other = place.path / "metrics.other.jsonl"
    assert place.metrics.read_text() == '{"step": 1}\n' and (other.is_dir() if folder else other.read_text() == "mine")


@pytest.mark.parametrize("size", [0, 5, 40])
def test_metrics_of_the_wrong_size_are_restored(size: int, place: RunDirectory, lines: JsonLines) -> None:
    """Such a file is left by `> metrics.jsonl`; without repair, the next checkpoint would record too few lines."""
    presence = Presence(place, lines)
    os.truncate(place.metrics, size)
    lines.log({"step": 2})
    presence.place_now()
    lines.log({"step": 3})
    assert place.metrics.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'
    assert (
        lines.size == place.metrics.stat().st_size and (place.path / "metrics.other.jsonl").stat().st_size == size + 12
    )


def test_a_deleted_lock_is_taken_again(place: RunDirectory, lines: JsonLines) -> None:
    presence = Presence(place, lines)
    place.lock.unlink()
    presence.place_now()
    process = FORKSERVER.Process(target=expect_refusal, args=(place.path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_process_is_refused_even_if_the_lock_was_deleted(place: RunDirectory, lines: JsonLines) -> None:
    place.lock.unlink()
    process = FORKSERVER.Process(target=expect_to_see_the_run, args=(place.path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    lines.log({"step": 2})
    Presence(place, lines).place_now()  # the refused process has changed nothing
    assert place.metrics.read_text() == '{"step": 1}\n{"step": 2}\n'


def expect_to_see_the_run(path: Path) -> None:
    assert in_use(path)
    with pytest.raises(UserError, match=r"is being used by another process, whose \.lock was removed: wait for it"):
        RunDirectory(path).claim(None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is being written by another process"):
        JsonLines(path / "metrics.jsonl", 0)


def expect_refusal(path: Path) -> None:
    with pytest.raises(UserError, match="is being used by process"):
        RunDirectory(path)._take_lock()


def take_and_wait(path: Path, ready: object, over: object) -> None:
    place = RunDirectory(path)
    place._take_lock()
    ready.set()  # type: ignore[attr-defined]
    over.wait(60)  # type: ignore[attr-defined]


def test_a_run_ends_if_another_process_locked_its_directory(place: RunDirectory, lines: JsonLines) -> None:
    presence, ready, over = Presence(place, lines), FORKSERVER.Event(), FORKSERVER.Event()
    place.lock.unlink()
    process = FORKSERVER.Process(target=take_and_wait, args=(place.path, ready, over))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(UserError, match=r"was removed while .* another process uses the run now: .* is being used"):
            presence.place_now()
    finally:
        over.set()
        process.join(60)


def test_metrics_without_the_lines_of_the_checkpoint_are_refused(place: RunDirectory, lines: JsonLines) -> None:
    size = lines.size
    require_lines(place.metrics, size, 1)
    lines.log({"step": 2})
    require_lines(place.metrics, size, 1)
    for content in (bytes(size), b'{"step": 3}\n', b'{"step": 1', b"[1]       \n\n"):
        place.metrics.write_bytes(content.ljust(size + 20, b" "))
        with pytest.raises(UserError, match=rf"does not have the lines .* \(step 1 does not end at byte {size}\)"):
            require_lines(place.metrics, size, 1)
    require_lines(place.metrics, size, None)
    os.truncate(place.metrics, size - 1)
    with pytest.raises(
        UserError, match=rf"has {size - 1} bytes, but had {size} when the checkpoint was saved: restore it"
    ):
        require_lines(place.metrics, size, 1)
    place.metrics.unlink()
    with pytest.raises(UserError, match="is missing or empty, but had"):
        require_lines(place.metrics, size, 1)
    require_lines(place.metrics, 0, 0)
