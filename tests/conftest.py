"""A tiny ImageNet, and runs: by the real command, or in a child that has the imports behind it already."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import hostile  # noqa: F401  (a fixture)
from made_runs import make  # noqa: F401  (a fixture)
from slurm_cluster import cluster, running_cluster  # noqa: F401 (fixtures)
from wrong_inputs import wrong  # noqa: F401  (a fixture)

from ranger21.data.sample import ensure_sample

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the children too: several of them share the machine
os.environ.setdefault("WANDB_MODE", "offline")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background; the children would ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

Recorded = Callable[[str, object], None]
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["ranger21.run.experiment", "children"])

LEET = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]  # W&B's own reader of its files

# 80 + 30 images of 32 pixels, 5 steps an epoch, 20 steps, dropout to be reproduced too.
TINY = [
    "data=imagenet",
    "data.resize=36",
    "data.crop=32",
    "data.batch_size=16",
    "data.workers=0",
    "model=resnet10t",
    "+model.kwargs={channels:[8,16,16,16],stem_width:8,drop_rate:0.2}",
    "trainer.epochs=4",
    "trainer.log_every_steps=2",
    "trainer.checkpoint_every_steps=3",
    "trainer.device=cpu",
    "logger=none",
]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageNet of 10 classes with 8 + 3 images each."""
    return ensure_sample(tmp_path_factory.mktemp("data") / "tiny", train_per_class=8, val_per_class=3)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Twelve single-colour classes, and a network that knows them: `colours.Colours`."""
    from colours import make_colours  # imports torch

    return make_colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture
def tiny(images: Path) -> list[str]:
    """The overrides of a run of seconds."""
    return [*TINY, f"data.root={images}"]


def command(*overrides: str, env: dict[str, str] | None = None, launcher: list[str] | None = None) -> dict[str, Any]:
    """Arguments for subprocess: train.py as a user types it."""
    return {
        "args": [*(launcher or [sys.executable]), str(ROOT / "train.py"), *overrides],
        "env": os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


def train(*overrides: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs train.py to its end."""
    return subprocess.run(**command(*overrides, env=env, **options), timeout=240)


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def repeatable(directory: Path) -> list[dict[str, Any]]:
    """The metrics without those that tell how fast the machine was."""
    return [{k: v for k, v in line.items() if k != "time" and not k.startswith("perf/")} for line in lines(directory)]


def result(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "result.json").read_text())


@pytest.fixture
def record_property(record_property: Recorded) -> Recorded:
    """Record numbers of NumPy's as Python's: pytest-xdist ends the whole run at a value that it cannot send."""

    def record(name: str, value: object) -> None:
        record_property(name, value.item() if isinstance(value, np.generic) else value)

    return record
