"""Exported weights are written completely, or the old file stays."""

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import FORKSERVER

from ranger21.models.weights import Weights, export
from ranger21.system.errors import UserError


def write_with_little_room(folder: Path, pipe: Any) -> None:
    """Export weights under a file-size limit of 100 kB, which makes the writes fail as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    run = {"config": {"data": {}, "run_dir": None}, "data": {"classes": 2}}
    weights = Weights("x", {"w": torch.zeros(200_000)}, ["a", "b"], run)
    for suffix in (".pth", ".safetensors"):
        with pytest.raises(UserError) as caught:
            export(weights, folder / f"m{suffix}")
        pipe.send(str(caught.value))


def test_a_full_disk_keeps_the_old_file_and_raises_a_user_error(tmp_path: Path) -> None:
    names = ["m.pth", "m.safetensors"]
    for name in names:
        (tmp_path / name).write_text("old")
    here, there = FORKSERVER.Pipe(duplex=False)
    process = FORKSERVER.Process(target=write_with_little_room, args=(tmp_path, there))
    process.start()
    for name in names:
        assert here.poll(60)
        sentence = (
            f"{tmp_path / name} could not be written (File too large): free disk space and run the same command again."
        )
        assert here.recv() == sentence
    process.join(60)
    assert sorted(os.listdir(tmp_path)) == names and all((tmp_path / name).read_text() == "old" for name in names)
