"""Fixtures shared by all tests, and environment variables for the processes that the tests start."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.training import TINY

from ranger21.data.sample import ensure_sample

if TYPE_CHECKING:
    from support.colours import Colours

    from ranger21.config import ImageFolderConfig

pytest_plugins = [
    "support.command_runner", "support.hostile_files", "support.page_browser", "support.run_directories",
    "support.slurm_cluster",
]  # fmt: skip

os.environ.setdefault("OMP_NUM_THREADS", "1")  # child processes inherit it; several run at once
os.environ.setdefault("WANDB_MODE", "offline")
gc.disable()  # while thousands of tests are collected; see pytest_collection_finish
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job of a shell ignores Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup ignores SIGHUP
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Collect garbage again, but not among what exists now."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature ImageNet: 10 classes with 8 training and 3 validation images each."""
    return ensure_sample(tmp_path_factory.mktemp("data") / "tiny", train_per_class=8, val_per_class=3)


@pytest.fixture
def tiny(images: Path) -> list[str]:
    """The overrides for a training run that takes seconds."""
    return [*TINY, f"data.root={images}"]


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Colours:
    """Twelve classes of single-colour images, and a network that recognizes them."""
    from support.colours import make_colours

    return make_colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files and folders for wrong commands, by the `$NAME` that stands for each of them in a command line."""
    from support.command_paths import make_paths

    return make_paths(tmp_path_factory.mktemp("places"))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make packs whose archives hold ten images each, also in helper processes."""
    from support.packs import make_shards_small

    make_shards_small(monkeypatch)


@pytest.fixture
def staged_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFolderConfig:
    """A data configuration with a pack of four archives, and a folder for the copy on the local disk."""
    from support.staging import make_staged_config

    return make_staged_config(tmp_path, monkeypatch)


@pytest.fixture
def record_property(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """Record NumPy numbers as Python numbers: pytest-xdist fails on a value that it cannot send."""

    def record(name: str, value: object) -> None:
        record_property(name, value.item() if isinstance(value, np.generic) else value)

    return record
