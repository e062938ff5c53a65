"""A killed and resumed run equals an uninterrupted one bit for bit: weights, optimizer state and records."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from support.commands import command, wait_for_line
from support.project import ROOT
from support.training import (
    FORKSERVER,
    TINY,
    assert_same_state,
    last_checkpoint,
    metrics_without_speed,
    result,
    run_ranks,
    saved_step,
    train_in_child,
)


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
def test_a_run_killed_at_random_steps_resumes_exactly(optimizer, workers, ranks, kills, extra, tiny, tmp_path):
    overrides = [*tiny, f"optimizer={optimizer}", f"data.workers={workers}", *extra]
    assert run_ranks(overrides, tmp_path / "whole", ranks) == [0] * ranks
    killed, rng = tmp_path / "killed", random.Random(f"{optimizer}{workers}{ranks}")
    for _ in range(kills):
        step = min(saved_step(killed) + rng.randint(1, 5), 20)
        codes = run_ranks(overrides, killed, ranks, die_at=step, when=rng.choice(["before", "after"]))
        assert codes[-1] == -signal.SIGKILL
    assert run_ranks(overrides, killed, ranks) == [0] * ranks
    assert_same_state(last_checkpoint(killed), last_checkpoint(tmp_path / "whole"))
    assert metrics_without_speed(killed) == metrics_without_speed(tmp_path / "whole")
    assert result(killed)["final"] == result(tmp_path / "whole")["final"]


def test_the_number_of_loader_processes_changes_nothing(tiny, tmp_path):
    for workers in (0, 1, 3):
        assert run_ranks([*tiny, f"data.workers={workers}"], tmp_path / str(workers), 1) == [0]
    assert_same_state(last_checkpoint(tmp_path / "0"), last_checkpoint(tmp_path / "1"))
    assert_same_state(last_checkpoint(tmp_path / "0"), last_checkpoint(tmp_path / "3"))


LOGGED = ["trainer.log_every_steps=1", "trainer.checkpoint_every_steps=null"]


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    """A run that logs every step and is never interrupted."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_ranks([*TINY, f"data.root={images}", *LOGGED], directory, 1) == [0]
    return directory


def assert_stopped_and_resumed(overrides, directory, output, undisturbed):
    """Assert that a stopped run saved a checkpoint, and ends like an uninterrupted one when resumed."""
    assert "Run the same command again to continue." in output and "Traceback" not in output
    assert not (directory / "result.json").exists()
    assert 0 < saved_step(directory) < 20
    assert run_ranks(overrides, directory, 1) == [0]
    assert_same_state(last_checkpoint(directory), last_checkpoint(undisturbed))
    assert metrics_without_speed(directory) == metrics_without_speed(undisturbed)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_signal_saves_and_the_run_resumes(number, code, undisturbed, tiny, tmp_path):
    directory = tmp_path / "run"
    process = FORKSERVER.Process(target=train_in_child, args=([*tiny, *LOGGED], directory, {}, None, ""))
    process.start()
    metrics = directory / "metrics.jsonl"
    while process.is_alive() and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(60)
    output = directory.with_suffix(".out").read_text()
    assert process.exitcode == code, output
    assert_stopped_and_resumed([*tiny, *LOGGED], directory, output, undisturbed)


def test_ctrl_c_saves_and_the_same_command_resumes(undisturbed, tiny, tmp_path):
    directory = tmp_path / "run"
    process = subprocess.Popen(**command(*tiny, *LOGGED, f"run_dir={directory}"))
    wait_for_line(directory / "metrics.jsonl", process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert_stopped_and_resumed([*tiny, *LOGGED], directory, output, undisturbed)


def test_a_signal_stops_all_ranks_of_torchrun(tiny, tmp_path):
    """The signal goes to one rank only, as a scheduler may send it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    overrides = [*tiny, "trainer.epochs=400", f"run_dir={tmp_path / 'run'}"]
    process = subprocess.Popen(**command(*overrides, launcher=launcher), cwd=ROOT)
    wait_for_line(tmp_path / "run" / "metrics.jsonl", process)
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    assert len(ranks) == 2
    os.kill(int(ranks[1]), signal.SIGUSR1)
    output, _ = process.communicate(timeout=90)
    assert "Stopped at step" in output, output
    assert saved_step(tmp_path / "run") > 0


def test_a_finished_run_is_not_changed(commands, tiny, tmp_path):
    assert run_ranks(tiny, tmp_path / "run", 1) == [0]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.name != ".lock"}
    finished = commands.complete("train.py", *tiny, f"run_dir={tmp_path / 'run'}")
    assert finished.returncode == 0 and "nothing to do" in finished.stdout, finished.stdout + finished.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
