"""Killed and resumed equals never killed: bit for bit, in weights, optimizer state and records."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import assert_same, run, weights
from conftest import ROOT, SPAWN, command, repeatable, result, train


def children(overrides: list[str], directory: Path, ranks: int, die_at: int | None = None, when: str = "") -> list[int]:
    """Exit codes of a run's ranks; with several, the last one is the one that is killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    processes = []
    for rank in range(ranks):
        env = {}
        if ranks > 1:
            env = {
                "RANK": rank,
                "WORLD_SIZE": ranks,
                "LOCAL_RANK": rank,
                "LOCAL_WORLD_SIZE": ranks,
                "MASTER_PORT": port,
            }
            env = {name: str(value) for name, value in env.items()} | {"MASTER_ADDR": "127.0.0.1"}
        doomed = die_at if rank == ranks - 1 else None
        processes.append(SPAWN.Process(target=run, args=(overrides, directory, env, doomed, when)))
        processes[-1].start()
    for process in reversed(processes):
        process.join(600)
        if die_at is not None:  # the others lost a rank: SLURM and torchrun end them too
            for other in processes:
                other.kill()
    for process in processes:
        process.join(30)
    return [process.exitcode for process in processes]


def resumed_from(directory: Path) -> int:
    last = directory / "checkpoints" / "last.pt"
    return weights(directory)["progress"]["step"] if last.exists() else 0


@pytest.mark.parametrize(
    ("optimizer", "workers", "ranks", "kills", "extra"),
    [
        ("ranger21", 0, 1, 20, []),
        ("adamw", 3, 1, 4, ["trainer.accumulate=2"]),
        ("ranger21", 1, 2, 4, []),
        ("nesterov", 0, 2, 2, ["trainer.accumulate=2", "trainer.on_nonfinite=skip"]),
        ("adamw", 0, 1, 3, ["trainer.precision=fp16"]),
    ],
)
def test_killed_at_random_steps(optimizer, workers, ranks, kills, extra, tiny, tmp_path):
    overrides = [*tiny, f"optimizer={optimizer}", f"data.workers={workers}", *extra]
    assert children(overrides, tmp_path / "whole", ranks) == [0] * ranks
    killed, rng = tmp_path / "killed", random.Random(f"{optimizer}{workers}{ranks}")
    for _ in range(kills):
        step = min(resumed_from(killed) + rng.randint(1, 5), 20)
        codes = children(overrides, killed, ranks, die_at=step, when=rng.choice(["before", "after"]))
        assert codes[-1] == -signal.SIGKILL
    assert children(overrides, killed, ranks) == [0] * ranks
    assert_same(weights(killed), weights(tmp_path / "whole"))
    assert repeatable(killed) == repeatable(tmp_path / "whole")
    assert result(killed)["final"] == result(tmp_path / "whole")["final"]


def test_the_number_of_loader_processes_changes_nothing(tiny, tmp_path):
    for workers in (0, 1, 3):
        assert children([*tiny, f"data.workers={workers}"], tmp_path / str(workers), 1) == [0]
    assert_same(weights(tmp_path / "0"), weights(tmp_path / "1"))
    assert_same(weights(tmp_path / "0"), weights(tmp_path / "3"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_saves_and_the_same_command_goes_on(number, code, tiny, tmp_path):
    overrides = [*tiny, "trainer.log_every_steps=1", "trainer.checkpoint_every_steps=null"]
    directory = tmp_path / "run"
    process = subprocess.Popen(**command(*overrides, f"run_dir={directory}"))
    wait_for_a_line(directory / "metrics.jsonl", process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "the same command goes on from there" in output and "Traceback" not in output
    assert not (directory / "result.json").exists()
    assert 0 < resumed_from(directory) < 20
    assert children(overrides, directory, 1) == [0]
    assert children(overrides, tmp_path / "whole", 1) == [0]
    assert_same(weights(directory), weights(tmp_path / "whole"))
    assert repeatable(directory) == repeatable(tmp_path / "whole")


def wait_for_a_line(path: Path, process: subprocess.Popen) -> None:
    for _ in range(1200):
        if path.exists() and path.stat().st_size:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"nothing in {path}")


def test_a_signal_stops_all_ranks_of_torchrun(tiny, tmp_path):
    """Sent to one rank only, as a scheduler may."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    overrides = [*tiny, "trainer.epochs=400", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(**command(*overrides, launcher=launcher), cwd=ROOT)
    wait_for_a_line(tmp_path / "run" / "metrics.jsonl", process)
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(ranks) == 2
    os.kill(int(ranks[1]), signal.SIGUSR1)
    output, _ = process.communicate(timeout=90)
    assert "Stopped at step" in output, output
    assert resumed_from(tmp_path / "run") > 0


def test_a_finished_run_is_left_alone(tiny, tmp_path):
    assert children(tiny, tmp_path / "run", 1) == [0]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"}
    finished = train(*tiny, f"run_dir={tmp_path / 'run'}")
    assert finished.returncode == 0 and "nothing to do" in finished.stdout, finished.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
