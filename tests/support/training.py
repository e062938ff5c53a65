"""Tiny training runs in child processes, and functions that read their results.

The child processes come from a fork server that has imported torch. The functions import what they need themselves, so
that collecting the tests does not import torch, and the child processes import nothing else.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.ports import free_port

if TYPE_CHECKING:
    import torch

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["ranger21.run.preloaded"])

# 80 + 30 images of 32 pixels; 20 steps, 5 per epoch. Dropout is on, because its random numbers must be reproduced, too.
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


def train_in_child(overrides: list[str], directory: Path, env: dict[str, str], die_at: int | None, when: str) -> None:
    """Train in this process, which ends with the run's exit code or by SIGKILL.

    Args:
        overrides: Arguments of train.py.
        directory: The run directory. Output is appended to the file beside it that ends in `.out`.
        env: Environment variables to set.
        die_at: The step at which the process kills itself.
        when: "before" that step, or "after" it but before it is recorded.
    """
    from ranger21.config.compose import compose_config
    from ranger21.engine import loop
    from ranger21.run import experiment

    os.environ.update(env)
    directory.parent.mkdir(parents=True, exist_ok=True)
    real = loop.take_step

    def fatal(setup: Any, state: Any, step: int, clock: Any) -> Any:
        if step == die_at and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        norm = real(setup, state, step, clock)
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return norm

    loop.take_step = fatal
    sys.stdout = sys.stderr = open(directory.with_suffix(".out"), "a")
    sys.exit(experiment.run(compose_config(overrides), directory))


def run_ranks(
    overrides: list[str], directory: Path, ranks: int, die_at: int | None = None, when: str = ""
) -> list[int]:
    """Train with each rank in a child process; return the exit codes. With `die_at` the last rank kills itself."""
    port = str(free_port())
    processes = []
    for rank in range(ranks):
        env = {}
        if ranks > 1:
            numbers = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks}
            env = {name: str(value) for name, value in numbers.items()}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        doomed = die_at if rank == ranks - 1 else None
        processes.append(FORKSERVER.Process(target=train_in_child, args=(overrides, directory, env, doomed, when)))
        processes[-1].start()
    for process in reversed(processes):
        process.join(600)
        if die_at is not None:  # SLURM and torchrun would kill the remaining ranks
            for other in processes:
                other.kill()
    for process in processes:
        process.join(30)
    return [process.exitcode for process in processes]


def metrics_lines(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def metrics_without_speed(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl without the values that depend on the machine's speed."""
    return [
        {key: value for key, value in line.items() if key != "time" and not key.startswith("perf/")}
        for line in metrics_lines(directory)
    ]


def result(directory: Path) -> dict[str, Any]:
    """Return a run's result.json."""
    return json.loads((directory / "result.json").read_text())


def last_checkpoint(directory: Path) -> dict[str, Any]:
    """Return the contents of a run's last.pt."""
    from ranger21.records.checkpoint_file import read

    return read(directory / "checkpoints" / "last.pt")


def saved_step(directory: Path) -> int:
    """Return the step of a run's last checkpoint, or 0 if there is none."""
    last = directory / "checkpoints" / "last.pt"
    return last_checkpoint(directory)["progress"]["step"] if last.exists() else 0


def model_weights(directory: Path) -> torch.Tensor:
    """Return all tensors of the model in a run's last checkpoint as one vector."""
    import torch

    return torch.cat([tensor.flatten() for tensor in last_checkpoint(directory)["model"].values()])


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Assert that two checkpoints have the same weights, optimizer state and progress, bit for bit."""
    import pytest  # not needed in the child processes
    import torch

    def compare(a: Any, b: Any, path: str) -> None:
        if isinstance(a, dict):
            assert a.keys() == b.keys(), path
            for key in a:
                compare(a[key], b[key], f"{path}.{key}")
        elif isinstance(a, (list, tuple)):
            assert len(a) == len(b), path
            for index, pair in enumerate(zip(a, b, strict=True)):
                compare(*pair, f"{path}[{index}]")
        elif isinstance(a, torch.Tensor):
            assert torch.equal(a, b), path
        else:
            assert a == b or a is b, f"{path}: {a} {b}"

    for key in ("model", "model_ema", "optimizer", "scaler"):
        compare(one.get(key), other.get(key), key)
    for key in ("step", "best", "last"):
        compare(one["progress"][key], other["progress"][key], key)
    assert one["meter"] == pytest.approx(other["meter"])
