"""Packs are copied to a node's local disk once and completely, even if processes are killed meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.staging import FORK, assert_whole_copy, never_stop, shard_contents
from support.training import TINY, assert_same_state, last_checkpoint, run_ranks

from ranger21.config import ImageFolderConfig
from ranger21.config.compose import compose_config
from ranger21.data import disk_space
from ranger21.data.pack import FACTS, PackRecipe
from ranger21.data.stage import place, stage, staged
from ranger21.system.errors import UserError


def dying(at: int) -> Callable[[], int]:
    """Return a stop function that kills the process at its call number `at`; it is called between two pieces."""
    calls = iter(range(1, 10**6))
    return lambda: os.kill(os.getpid(), signal.SIGKILL) if next(calls) == at else 0


def test_a_pack_is_copied_once(staged_config: ImageFolderConfig) -> None:
    assert place(staged_config).parent == Path(os.environ["OWN_DISK"]) / f"ranger21-{os.geteuid()}"
    assert stage(staged_config, never_stop) == 0
    assert_whole_copy(staged_config)
    before = {path: path.stat().st_mtime_ns for path in place(staged_config).iterdir()}
    assert stage(staged_config, never_stop) == 0
    assert {path: path.stat().st_mtime_ns for path in place(staged_config).iterdir()} == before
    assert (
        staged(staged_config).pack == str(place(staged_config))
        and staged(staged_config).batch_size == staged_config.batch_size
    )


def test_copying_continues_after_a_kill_at_any_piece(staged_config: ImageFolderConfig) -> None:
    for moment in range(1, 22):
        process = FORK.Process(target=stage, args=(staged_config, dying(moment)))
        process.start()
        process.join(60)
        assert process.exitcode in (-signal.SIGKILL, 0)
        if process.exitcode == 0:
            break
        found = {
            path.name: path.read_bytes() for path in place(staged_config).iterdir() if not path.name.startswith(".")
        }
        whole = shard_contents(Path(staged_config.pack))
        assert found == {name: whole[name] for name in found}  # a file under its final name is complete
        if moment % 5 == 0:
            shutil.rmtree(place(staged_config))
    assert stage(staged_config, never_stop) == 0
    assert_whole_copy(staged_config)


def test_another_rank_continues_when_the_copying_rank_dies(staged_config: ImageFolderConfig) -> None:
    def slow(at: int) -> Callable[[], int]:
        die = dying(at)
        return lambda: time.sleep(0.02) or die()

    ranks = [FORK.Process(target=stage, args=(staged_config, slow(at))) for at in (8, 10**5, 10**5)]
    for rank in ranks:
        rank.start()
        time.sleep(0.05)
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [-signal.SIGKILL, 0, 0]
    assert_whole_copy(staged_config)


def test_a_stopped_copy_can_be_continued(staged_config: ImageFolderConfig) -> None:
    calls = iter(range(10**6))
    assert stage(staged_config, lambda: 143 if next(calls) > 6 else 0) == 143
    assert 0 < len(list(place(staged_config).glob("*.tar"))) < 4
    assert stage(staged_config, lambda: 143) == 143  # before copying starts, and while another rank copies
    assert stage(staged_config, never_stop) == 0
    assert_whole_copy(staged_config)


def test_a_damaged_pack_is_not_copied(staged_config: ImageFolderConfig) -> None:
    (Path(staged_config.pack) / "train-00001.tar").write_bytes(bytes(2500))
    with pytest.raises(UserError, match=r"train-00001.tar is damaged\. .* --check"):
        stage(staged_config, never_stop)
    assert not (place(staged_config) / "train-00001.tar").exists() and not (place(staged_config) / FACTS).exists()


def test_a_copy_of_the_wrong_size_is_copied_again(staged_config: ImageFolderConfig) -> None:
    stage(staged_config, never_stop)
    (place(staged_config) / "val-00000.tar").write_bytes(b"cut")
    stage(staged_config, never_stop)
    assert_whole_copy(staged_config)


def test_a_stage_without_space_permission_or_variable_is_refused(
    staged_config: ImageFolderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda folder: SimpleNamespace(free=5000))
    with pytest.raises(UserError, match=r"Free .* more, or choose"):
        stage(staged_config, never_stop)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"data.stage=\$OWN_DISK names a variable that is not set on"):
        stage(staged_config, never_stop)
    monkeypatch.setenv("OWN_DISK", "")
    for stage_ in ("$OWN_DISK", "here", "~nobody-here/x"):
        with pytest.raises(UserError, match=rf"data.stage={re.escape(stage_)} is not an absolute path on"):
            stage(replace(staged_config, stage=stage_), never_stop)
    staged_config.stage = "/proc/nothing"
    with pytest.raises(
        UserError, match=r"could not be copied to /proc/nothing/.*: remove the cause, or choose another data.stage"
    ):
        stage(staged_config, never_stop)


def test_stage_needs_a_pack_and_a_folder() -> None:
    with pytest.raises(UserError, match=r"data.stage=/tmp requires data.pack"):
        compose_config(["data.root=/data", "data.stage=/tmp"]).data.require()
    with pytest.raises(UserError, match=r"data.stage='' is invalid"):
        compose_config(["data.stage=''"])


def test_training_from_a_copy_equals_training_from_the_pack(images: Path, tmp_path: Path) -> None:
    """Two ranks of one node share one copy."""
    from ranger21.data.build import build_data
    from ranger21.packing.make import make_pack

    tiny = [*TINY, f"data.root={images}", "trainer.epochs=1"]
    config = compose_config(tiny).data
    data = build_data(config, 0)
    sources = {"train": data.train.source, "val": data.val.source}
    make_pack(sources, config, PackRecipe(36, "squash", "raw", None, None), tmp_path / "pack", 1)
    tiny += [f"data.pack={tmp_path / 'pack'}"]
    assert run_ranks(tiny, tmp_path / "whole", 2) == [0, 0]
    assert run_ranks([*tiny, f"data.stage={tmp_path / 'disk'}"], tmp_path / "staged", 2) == [0, 0]
    assert_same_state(last_checkpoint(tmp_path / "staged"), last_checkpoint(tmp_path / "whole"))
    [of_user] = (tmp_path / "disk").iterdir()
    assert len(list(of_user.iterdir())) == 1
