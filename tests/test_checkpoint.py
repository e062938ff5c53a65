"""A folder of checkpoints: saving, choosing the newest readable one, kills, full disks and damage."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import random
import re
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.checkpoints import make_state, same_state
from support.failing_files import failing_opens

from ranger21.records import checkpoint
from ranger21.records.checkpoint import Checkpoints
from ranger21.records.checkpoint_file import Damaged, read, read_file, read_run, weights_path
from ranger21.system.errors import UserError

FORK = multiprocessing.get_context("fork")


def step_of(path: Path) -> int:
    """Return a checkpoint's step, and assert that all its tensors belong to that step."""
    state = read(path)
    step = state["progress"]["step"]
    assert same_state(state, make_state(step, len(state["model"]["weight"])))
    return step


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoints:
    monkeypatch.setattr(checkpoint, "PAUSES", (0.0, 0.0, 0.0))
    return Checkpoints(tmp_path / "checkpoints")


def newest(place: Checkpoints) -> Path | None:
    found = place.newest()
    return found and found[0]


def names(place: Checkpoints) -> set[str]:
    return {path.name for path in place.last.parent.iterdir()}


def damage(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def test_a_saved_checkpoint_is_read_back_unchanged(place: Checkpoints) -> None:
    state = make_state(3)
    place.save(state)
    assert same_state(read(place.last), state) and newest(place) == place.last
    assert same_state(read_file(place.last)["model"], state["model"])
    assert names(place) == {"last.pt"}


def test_saving_keeps_the_last_the_previous_and_the_best_checkpoint(place: Checkpoints) -> None:
    for step in range(1, 6):
        place.save(make_state(step), best=step in (1, 3))
    assert (step_of(place.last), step_of(place.previous), step_of(place.best)) == (5, 4, 3)
    assert names(place) == {"last.pt", "previous.pt", "best.pt"}


@pytest.mark.parametrize("links", [True, False])
def test_the_best_checkpoint_survives_later_saves_and_damage_to_the_others(
    place: Checkpoints, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")  # as on a file system without hard links

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    place.save(make_state(1), best=True)
    assert place.best.samefile(place.last) == links
    before = place.best.read_bytes()
    for step in (2, 3):
        place.save(make_state(step))
    damage(place.last)
    damage(place.previous)
    assert place.newest() is None
    place.put_aside()
    assert place.best.read_bytes() == before and step_of(place.best) == 1


@pytest.mark.parametrize("block", [16, 512])
def test_a_block_of_zeros_is_detected_or_harmless(place: Checkpoints, block: int) -> None:
    """A crash of the machine can leave such a block."""
    state = make_state(7, numbers=1000)
    place.save(state)
    raw = place.last.read_bytes()
    for start in range(0, len(raw), max(block, len(raw) // 60)):
        place.last.write_bytes(raw[:start] + bytes(len(raw[start : start + block])) + raw[start + block :])
        with contextlib.suppress(Damaged):
            assert same_state(read(place.last), state), start


def test_a_truncated_checkpoint_is_damaged(place: Checkpoints) -> None:
    place.save(make_state(7))
    raw = place.last.read_bytes()
    for length in [*range(0, len(raw), 37), len(raw) - 1]:
        place.last.write_bytes(raw[:length])
        with pytest.raises(Damaged):
            read(place.last)


class Harmful:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (os.environ["HARM"],)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARM", str(tmp_path / "harm"))
    torch.save({"model": Harmful()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil.pt cannot be read without running code in it \(it contains posix.mkdir"):
        read_file(tmp_path / "evil.pt")
    assert not (tmp_path / "harm").exists()


def test_a_damaged_checkpoint_is_skipped_and_put_aside_only_when_asked(place: Checkpoints) -> None:
    assert place.newest() is None and not place.damaged and not place.traces()
    for step in (1, 2):
        place.save(make_state(step))
    damage(place.last)
    for _ in range(2):  # looking for the newest changes nothing
        assert newest(place) == place.previous and step_of(place.previous) == 1
        assert [*place.damaged] == [place.last] and names(place) == {"last.pt", "previous.pt"}
    place.put_aside()
    assert names(place) == {"last.damaged", "previous.pt"} and newest(place) == place.previous
    place.save(make_state(2))
    assert (step_of(place.last), step_of(place.previous)) == (2, 1)
    for path in (place.last, place.previous):
        damage(path)
    assert place.newest() is None and [*place.damaged] == [place.last, place.previous]
    place.put_aside()
    assert names(place) == {"last.damaged", "last-2.damaged", "previous.damaged"} == {*place.traces()}


def test_a_checkpoint_that_cannot_be_read_now_is_not_treated_as_damaged(place: Checkpoints) -> None:
    """Reading is tried again after pauses; then the error is raised, and no file has been moved."""
    for step in (1, 2):
        place.save(make_state(step))
    with failing_opens(place.last, times=2):
        assert newest(place) == place.last
    with (
        failing_opens(place.last),
        pytest.raises(UserError, match=r"last.pt cannot be read now \(Input/output error\)"),
    ):
        place.newest()
    place.last.unlink()
    place.last.symlink_to("nowhere.pt")
    with pytest.raises(
        UserError, match=r"last.pt is a link to nowhere.pt, which does not exist: restore that file, or"
    ):
        place.newest()
    assert names(place) == {"last.pt", "previous.pt"} and not place.damaged


def test_marking_the_best_checkpoint_again_changes_nothing(place: Checkpoints) -> None:
    place.save(make_state(1), best=True)
    place.mark_best(place.last)  # every run that starts from its best step does this
    assert names(place) == {"last.pt", "best.pt"}


def test_a_full_disk_leaves_the_old_checkpoint(place: Checkpoints) -> None:
    """Simulate a full disk: RLIMIT_FSIZE makes writes beyond 100 kB fail."""

    def child(pipe: Any) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        for best in (False, True):
            try:
                place.save(make_state(2, numbers=300_000), best)
                pipe.send("saved")
            except UserError as error:
                pipe.send(str(error))

    def sentences() -> list[str]:
        here, there = FORK.Pipe(duplex=False)
        process = FORK.Process(target=child, args=(there,))
        process.start()
        process.join(60)
        return [here.recv(), here.recv()]

    for text in sentences():
        assert f"{place.last} could not be written (File too large); there is no previous one" in text
    assert names(place) == set()
    place.save(make_state(1), best=True)
    for text in sentences():
        assert "could not be written (File too large); the previous one is unchanged. Free disk space" in text
    assert names(place) == {"last.pt", "best.pt"} and step_of(place.last) == step_of(place.best) == 1


def test_a_kill_while_saving_leaves_the_newest_saved_checkpoint_readable(place: Checkpoints) -> None:
    """The process is killed 25 times, at random moments."""
    rng, reached = random.Random(0), 0

    def child(pipe: Any) -> None:
        step = reached
        while True:
            step += 1
            place.save(make_state(step, numbers=20_000), best=step % 2 == 0)
            pipe.send(step)

    for _ in range(25):
        here, there = FORK.Pipe(duplex=False)
        process = FORK.Process(target=child, args=(there,))
        process.start()
        there.close()
        saved = here.recv()
        time.sleep(rng.uniform(0, 0.04))
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        with contextlib.suppress(EOFError):
            while True:
                saved = here.recv()
        assert newest(place) == place.last
        reached = step_of(place.last)
        assert reached in (saved, saved + 1) and step_of(place.previous) in (reached - 1, reached)
        if reached % 2 == 0 and step_of(place.best) == reached - 2:  # killed between naming last.pt and best.pt
            place.mark_best(place.last)  # as a resumed run does
        assert step_of(place.best) in (reached - reached % 2, reached + 1)
        assert not [name for name in names(place) if name.endswith(".damaged")]


def test_a_run_directory_stands_for_its_best_checkpoint_and_unreadable_files_are_named(
    place: Checkpoints, tmp_path: Path
) -> None:
    assert weights_path(str(tmp_path)) == place.last
    place.save(make_state(1), best=True)
    assert weights_path(str(tmp_path)) == place.best and weights_path(str(place.previous)) == place.previous
    with pytest.raises(UserError, match=r"^There is no checkpoint .*previous.pt\.$"):
        read_file(place.previous)
    with pytest.raises(UserError, match=f"contains runs: give one of them, such as {re.escape(str(tmp_path.parent))}/"):
        read_run(str(tmp_path.parent))
    damage(place.last)
    with pytest.raises(UserError, match=r"^The checkpoint .*last.pt is damaged: .*\.$"):
        read_file(place.last)
    torch.save([1, 2], tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other.pt has no weights: torch.save wrote a list\.$"):
        read_file(tmp_path / "other.pt")
