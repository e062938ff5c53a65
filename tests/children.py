"""What a child process does: a run, or a part of one that ends in a real SIGKILL."""

import contextlib
import errno
import math
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ranger21.config.compose import compose_config
from ranger21.engine import loop
from ranger21.run import experiment


def run(overrides: list[str], directory: Path, env: dict[str, str], die_at: int | None, when: str) -> None:
    """Runs to the end, or kills itself at step `die_at`: before it, or after it and before anything is recorded."""
    os.environ.update(env)
    directory.parent.mkdir(parents=True, exist_ok=True)
    real = loop.take_step

    def fatal(job, step, clock):
        if step == die_at and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        norm = real(job, step, clock)
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return norm

    loop.take_step = fatal
    sys.stdout = sys.stderr = open(directory.with_suffix(".out"), "a")
    sys.exit(experiment.run(compose_config(overrides), directory))


_FAILING: dict[str, float] = {}  # how often opening a file is still to fail


def _open_fails(event: str, arguments: tuple) -> None:
    if event == "open" and _FAILING.get(str(arguments[0]), 0) > 0:
        _FAILING[str(arguments[0])] -= 1
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(arguments[0]))


@contextlib.contextmanager
def failing_opens(path: Path, times: float = math.inf) -> Iterator[None]:
    """Let a file be there and whole, but its opening fail so many times, as a network's file system does."""
    if not _FAILING:
        sys.addaudithook(_open_fails)  # which cannot be taken away again
    _FAILING[str(path)] = times
    try:
        yield
    finally:
        _FAILING[str(path)] = 0


def weights(directory: Path) -> dict:
    from ranger21.records.checkpoint_file import read

    return read(directory / "checkpoints" / "last.pt")


def assert_same(one: dict, other: dict) -> None:
    """Bit for bit: weights, optimizer state and progress."""
    import torch

    def walk(a, b, path: str) -> None:
        if isinstance(a, dict):
            assert a.keys() == b.keys(), path
            for key in a:
                walk(a[key], b[key], f"{path}.{key}")
        elif isinstance(a, (list, tuple)):
            assert len(a) == len(b), path
            for index, pair in enumerate(zip(a, b, strict=True)):
                walk(*pair, f"{path}[{index}]")
        elif isinstance(a, torch.Tensor):
            assert torch.equal(a, b), path
        else:
            assert a == b or a is b, f"{path}: {a} {b}"

    for key in ("model", "optimizer", "scaler"):
        walk(one[key], other[key], key)
    for key in ("step", "best", "last"):
        walk(one["progress"][key], other["progress"][key], key)
    assert one["meter"] == pytest.approx(other["meter"])
