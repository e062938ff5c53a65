"""Online W&B runs that are killed and resumed, and sweeps whose run directory is there already."""

import copy
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.training import FORKSERVER, metrics_lines, train_in_child

from ranger21.config.compose import compose_config
from ranger21.engine import loop
from ranger21.faults.wandb_server import Received, Server
from ranger21.run import experiment
from ranger21.wandb_tools.file import read_fragment
from ranger21.wandb_tools.sync import sync

wandb = pytest.importorskip("wandb", reason="pip install wandb")
STEPS = [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
        monkeypatch.setenv("HOME", str(tmp_path))
        yield server
        wandb.teardown()


@pytest.fixture
def online(tiny: list[str]) -> list[str]:
    short = ["trainer.steps=8", "trainer.log_every_steps=1"]
    return [*(word for word in tiny if word != "logger=none"), *short, "logger=wandb", "logger.mode=online"]


def start(typed: list[str], directory: Path) -> None:
    """Train in this process."""
    assert experiment.run(compose_config(typed), directory) == 0
    wandb.teardown()  # a process has read W&B's environment variables once


def killed_before_step_5(typed: list[str], directory: Path, env: dict[str, str], lost: Path) -> None:
    """Train in this process, which waits before step 3 for the file `lost`. Its checkpoint is that of step 3."""
    real = loop.take_step

    def patient(setup, state, number, clock):
        while number == 3 and not lost.exists():
            time.sleep(0.02)
        return real(setup, state, number, clock)

    loop.take_step = patient
    train_in_child(typed, directory, env, die_at=5, when="before")


def kill(typed: list[str], directory: Path, server: Server) -> None:
    """Train in a child that is killed after step 4, when the server has received the first step only.

    W&B holds back the last row that it has.
    """
    lost = directory.parent / "lost"
    env = {name: os.environ[name] for name in os.environ if name.startswith("WANDB_") or name == "HOME"}
    process = FORKSERVER.Process(target=killed_before_step_5, args=(typed, directory, env, lost))
    process.start()
    while process.is_alive() and not any(run.history for run in server.runs.values()):
        time.sleep(0.02)
    server.failing = "all"
    lost.touch()
    process.join(200)
    assert process.exitcode == -signal.SIGKILL, directory.with_suffix(".out").read_text()
    server.failing = ""
    for path in directory.rglob("*.wandb"):
        os.utime(path, (0, 0))


def steps(received: Received) -> list[int]:
    return [row["_step"] for row in received.history]


def test_w_and_b_has_every_step_of_a_killed_run_once(online, tmp_path, server, monkeypatch):
    """After sync_wandb.py, after resuming the run, after both, and as a trial of a sweep."""
    run, after_sync, swept = tmp_path / "run", tmp_path / "after sync", tmp_path / "swept"
    kill(online, run, server)
    ((run_id, received),) = server.runs.items()
    assert steps(received) == [1] and [row["step"] for row in metrics_lines(run)] == STEPS[:4]
    before = copy.deepcopy(received)
    shutil.copytree(run, after_sync)
    shutil.copytree(run, swept)

    start(online, run)
    assert steps(received) == STEPS and received.lines == len(STEPS) and received.exit_code == 0
    for row, logged in zip(received.history, metrics_lines(run), strict=True):
        assert {name: row[name] for name in logged} == pytest.approx(logged, rel=1e-7)
    assert f"W&B has received this run up to step 8: {server.url}" in (run / "log.txt").read_text()
    assert next(sync([str(run)])).sentence.startswith("nothing new: ")

    server.runs[run_id] = received = before
    (outcome,) = sync([str(after_sync)])
    assert outcome.sentence.startswith("sent: ") and steps(received) == STEPS[:4], outcome
    start(online, after_sync)
    assert steps(received) == STEPS and received.summary["status"] == "finished"

    begin_trial(monkeypatch, tmp_path)
    start(online, swept)
    assert steps(server.runs["trial"]) == STEPS
    assert [outcome.sentence.split(":")[0] for outcome in sync([str(swept)])] == ["skipped", "nothing new"]


def begin_trial(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Set the environment variables with which `wandb agent` starts a trial in a folder."""
    values = {"SWEEP_ID": "s1", "RUN_ID": "trial", "PROJECT": "ours", "ENTITY": "me", "DIR": str(folder)}
    (folder / "parameters.yaml").write_text("wandb_version: 1\nseed:\n  value: 0\n")
    for name, value in (values | {"SWEEP_PARAM_PATH": str(folder / "parameters.yaml")}).items():
        monkeypatch.setenv(f"WANDB_{name}", value)


def content(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_sweep_gets_the_result_of_a_run_that_is_finished(online, tmp_path, server, monkeypatch, capfd):
    """The run directory does not change. Without a sweep, nothing is sent."""
    run = tmp_path / "run"
    start([*online, "logger.mode=offline"], run)
    before = content(run)
    start(online, run)
    assert not server.runs

    begin_trial(monkeypatch, tmp_path)
    start(online, run)
    told = capfd.readouterr().out.splitlines()
    assert (
        f"{run} is already finished (step 8): it is not trained again, and its result is reported to the W&B sweep s1."
        in told
    )
    assert told[-1] == f"W&B has received this run up to step 8: {server.url}/me/p/runs/trial"
    ((_, received),) = server.runs.items()
    assert steps(received) == STEPS and received.exit_code == 0
    assert (received.fields["sweep"], received.fields["displayName"]) == ("s1", "run")
    assert (
        received.summary["status"] == "finished" and received.summary["val/acc1"] == metrics_lines(run)[-1]["val/acc1"]
    )
    assert received.summary["best/val/acc1"] == max(row.get("val/acc1", 0) for row in metrics_lines(run))
    assert content(run) == before
    assert [next(sync([str(path)], send=False)).sentence.split(":")[0] for path in (run, tmp_path / "wandb")] == [
        "would be sent",
        "nothing new",
    ]


def test_a_sweep_whose_server_is_lost_can_be_sent_the_result_later(online, tmp_path, server, monkeypatch, capfd):
    run = tmp_path / "run"
    start([*online[:-2], "logger=none"], run)
    before = content(run)
    begin_trial(monkeypatch, tmp_path)
    server.failing = "upsert"
    start(online, run)
    assert content(run) == before
    (folder,) = tmp_path.glob("wandb/offline-run-*-trial")
    assert [row["step"] for row in read_fragment(folder / "run-trial.wandb").rows] == STEPS
    assert capfd.readouterr().out.endswith(f" python scripts/sync_wandb.py {folder}\n")
    server.failing = ""
    monkeypatch.delenv("WANDB_SWEEP_ID")
    (outcome,) = sync([str(folder)])
    assert outcome.sentence.startswith("sent: ") and server.runs["trial"].fields["sweep"] == "s1", outcome
    assert steps(server.runs["trial"]) == STEPS and server.runs["trial"].exit_code == 0
