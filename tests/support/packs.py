"""Packs of a tiny dataset."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ranger21.config import ImageFolderConfig
from ranger21.data import sources
from ranger21.data.build import build_data
from ranger21.data.pack import PackRecipe
from ranger21.packing import make, writing
from ranger21.system import processes
from support.project import ROOT

JPEG = PackRecipe(36, "squash", "jpeg", 95, "4:4:4")
RAW = PackRecipe(36, "squash", "raw", None, None)


def make_shards_small(monkeypatch: pytest.MonkeyPatch, images: int = 10) -> None:
    """Make packs with a few images per archive. Helper processes are forked, so that they see the patch too."""
    monkeypatch.setattr(make, "IMAGES_A_SHARD", images)
    monkeypatch.setattr(sources, "IMAGES_A_SHARD", images)
    real = processes.multiprocessing.get_context
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda name: real("fork"))


def die_at(moment: int, make_it: Callable[[], object]) -> bool:
    """Run `make_it` in a child that kills itself at a moment: with a file half written, or before or after its rename.

    Returns False if there is no such moment.
    """
    if (child := os.fork()) == 0:
        count, real = 0, writing.commit

        def commit(new: Path, path: Path) -> None:
            nonlocal count
            for step in ("half", "before", "after"):
                count += 1
                if step == "half" and count == moment:
                    new.write_bytes(new.read_bytes()[: new.stat().st_size // 2])
                if step == "after":
                    real(new, path)
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        writing.commit = commit
        try:
            make_it()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def sources_of(config: ImageFolderConfig) -> dict[str, Any]:
    """Return the image source of each split."""
    data = build_data(config, 0)
    return {"train": data.train.source, "val": data.val.source}


def file_digests(pack: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a pack, by relative path."""
    return {
        str(path.relative_to(pack)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(pack.rglob("*"))
        if path.is_file()
    }


def pack_command(target: Path, *arguments: str, **options: Any) -> dict[str, Any]:
    """Return the arguments with which subprocess runs scripts/pack.py as a user types it."""
    return {
        "args": [sys.executable, str(ROOT / "scripts" / "pack.py"), str(target), *arguments],
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    } | options


def pack_by_command(target: Path, *arguments: str, code: int = 0, **options: Any) -> str:
    """Run scripts/pack.py, assert its exit code, and return its output."""
    done = subprocess.run(**pack_command(target, *arguments, **options), timeout=120)
    assert done.returncode == code and "Traceback" not in done.stdout, done.stdout
    return done.stdout


def few_classes(config: ImageFolderConfig) -> ImageFolderConfig:
    """Limit the configuration to three classes: 24 training images in 3 archives, 9 validation images in one."""
    return replace(config, classes=3)
