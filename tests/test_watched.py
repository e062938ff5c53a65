"""trainer.deterministic, trainer.profile and the stacks of a hang do not change results."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import FORKSERVER, TINY, assert_same_state, last_checkpoint, run_ranks, train_in_child

from ranger21.config.compose import compose_config
from ranger21.engine import loop
from ranger21.run import numerics
from ranger21.run.numerics import computing
from ranger21.run.profiling import Profile
from ranger21.system import heartbeat
from ranger21.system.errors import UserError
from ranger21.system.heartbeat import Heartbeat
from ranger21.system.ranks import record_collectives
from ranger21.system.stalls import BEATS, MOST, Stalls


def switches() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32)


@pytest.fixture
def no_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(numerics.WORKSPACE, "")  # registers the variable, so that monkeypatch restores it
    monkeypatch.delenv(numerics.WORKSPACE)


@pytest.mark.usefixtures("no_workspace")
def test_deterministic_sets_and_restores_torchs_switches() -> None:
    before = switches()
    with computing(compose_config(TINY).trainer):
        assert switches() == (False, False, True, True) and numerics.WORKSPACE not in os.environ
    config = compose_config([*TINY, "trainer.deterministic=true", "trainer.tf32=false"]).trainer
    with computing(config):
        assert switches() == (True, True, False, False) and os.environ[numerics.WORKSPACE] == ":4096:8"
    assert switches() == before


@pytest.mark.usefixtures("no_workspace")
def test_an_operation_without_a_deterministic_version_is_reported() -> None:
    config = compose_config([*TINY, "trainer.deterministic=true"]).trainer
    before = switches()
    with (
        pytest.raises(
            UserError, match=r"^trainer.deterministic=true: put_ has no deterministic implementation in torch"
        ),
        computing(config),
    ):
        torch.zeros(3).put_(torch.tensor([1, 1]), torch.ones(2))
    assert switches() == before
    with computing(compose_config(TINY).trainer):
        torch.zeros(3).put_(torch.tensor([1, 1]), torch.ones(2))
    with pytest.raises(RuntimeError, match="of its own"), computing(config):
        raise RuntimeError("something of its own")


@pytest.mark.usefixtures("no_workspace")
def test_settings_that_contradict_deterministic_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"deterministic=true and trainer.cudnn_benchmark=true contradict each other"):
        compose_config([*TINY, "trainer.deterministic=true", "trainer.cudnn_benchmark=true"])
    config = compose_config([*TINY, "trainer.deterministic=true"]).trainer
    assert config.cudnn_benchmark is False and compose_config(TINY).trainer.cudnn_benchmark is True  # as in older files
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(UserError, match="before CUDA starts, but CUDA is already in use"), computing(config):
        pass
    monkeypatch.setenv(numerics.WORKSPACE, ":16:8")
    with computing(config):
        pass
    monkeypatch.setenv(numerics.WORKSPACE, ":0:0")
    with pytest.raises(UserError, match="conflicts with CUBLAS_WORKSPACE_CONFIG=:0:0: unset it"), computing(config):
        pass


def test_deterministic_and_profile_do_not_change_results_on_the_cpu(tiny: list[str], tmp_path: Path) -> None:
    """A kill does not change this. The trace contains whole steps, and none with an evaluation."""
    short = [*tiny, "trainer.steps=14"]
    assert run_ranks(short, tmp_path / "plain", 1) == [0]
    watched = [*short, "trainer.deterministic=true", "trainer.profile=2"]
    assert run_ranks(watched, tmp_path / "watched", 1, die_at=14, when="before") == [-9]
    (trace,) = (tmp_path / "watched" / "profile").iterdir()
    assert trace.name == "steps-12-13-rank-0.json.gz"  # an evaluation follows step 10, before step 11
    assert run_ranks(watched, tmp_path / "watched", 1) == [0]
    assert_same_state(last_checkpoint(tmp_path / "plain"), last_checkpoint(tmp_path / "watched"))
    assert [path.name for path in (tmp_path / "watched" / "profile").iterdir()] == [trace.name]
    assert "this process took no step after its first 10" in (tmp_path / "watched" / "log.txt").read_text()
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    names = {event.get("name") for event in events}
    assert {name for name in names if str(name).startswith("step ")} == {"step 12", "step 13"}
    assert "aten::convolution" in names and not (tmp_path / "plain" / "profile").exists()
    settings = json.loads((tmp_path / "watched" / "manifest.json").read_text())["sessions"][-1]["settings"]
    assert settings["trainer.deterministic"] is True and settings["trainer.cudnn_benchmark"] is False


def traces_of(folder: Path, steps: int, done: int, until: int, ends: set[int]) -> list[str]:
    profile = Profile(folder, 3, steps, done, "cpu", ends.__contains__)
    for step in range(done, until + 1):
        if step > done:
            torch.ones(3).sum()
        profile.progress(step)
    profile.close(0, {})
    return sorted(path.name for path in folder.glob("profile/*"))


def test_a_profile_covers_steps_without_evaluations(tmp_path: Path) -> None:
    cases: list[tuple[int, int, int, set[int], list[str]]] = [
        (3, 100, 200, set(), ["steps-111-113-rank-3.json.gz"]),
        (3, 0, 12, set(), ["steps-11-12-rank-3.json.gz"]),  # stopped
        (5, 0, 40, {13, 20}, ["steps-11-13-rank-3.json.gz"]),
        (5, 0, 40, {10, 20}, ["steps-12-16-rank-3.json.gz"]),
        (5, 0, 10, set(), []),
        (5, 0, 40, set(range(50)), []),
    ]
    for number, (steps, done, until, ends, names) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert traces_of(folder, steps, done, until, ends) == names, number
    assert traces_of(tmp_path / "renamed", 1, 0, 20, set()) == [] and not (tmp_path / "renamed").exists()
    with pytest.raises(
        UserError, match=r"^trainer.profile=101 is invalid: it must be a number at least 0 and below 101"
    ):
        compose_config([*TINY, "trainer.profile=101"])


def stuck_here() -> None:
    threading.Event().wait()


def stuck_run(overrides: list[str], directory: Path, env: dict[str, str]) -> None:
    """Run one rank of a run whose second rank hangs at its third step."""
    real, steps = loop.forward_backward, [0]

    def forward_backward(setup: Any, state: Any, batch: Any, passes: int) -> Any:
        steps[0] += 1
        if setup.world.rank == 1 and steps[0] == 3:
            stuck_here()
        return real(setup, state, batch, passes)

    loop.forward_backward = forward_backward
    sys.path.append(str(Path(__file__).parent))
    train_in_child(overrides, directory, env, None, "")


def test_a_hang_is_reported_with_the_stacks_of_all_ranks(tiny: list[str], tmp_path: Path) -> None:
    from support.ports import free_port

    directory = tmp_path / "run"
    env = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    env |= {"RANGER21_PATIENCE": "3"}
    ranks = [
        FORKSERVER.Process(target=stuck_run, args=(tiny, directory, env | {"RANK": rank, "LOCAL_RANK": rank}))
        for rank in ("0", "1")
    ]
    for process in ranks:
        process.start()
    files = [directory / "stacks" / f"rank-{rank}.txt" for rank in (0, 1)]
    try:
        deadline = time.monotonic() + 90
        while not all(file.exists() and "take_step" in file.read_text() for file in files):
            assert time.monotonic() < deadline and all(process.is_alive() for process in ranks), list(
                tmp_path.rglob("*")
            )
            time.sleep(0.1)
        waiting, blamed = (file.read_text() for file in files)
    finally:
        for process in ranks:
            process.kill()
            process.join()
    assert "stuck_here" in blamed and "rank 1, process" in blamed and "after step 2: no step has ended for" in blamed
    assert "stuck_here" not in waiting and "backward" in waiting and "after step 2" in waiting
    assert "Rank 0: no step has ended" in (directory / "log.txt").read_text()


def test_stacks_are_limited_and_written_when_a_rank_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.distributed import Store

    ended: list[int] = []
    monkeypatch.setattr(heartbeat.os, "_exit", ended.append)
    with Stalls(tmp_path, 0, 1000.0) as stalls, Heartbeat(Store(), 0, 2, 0.3):  # rank 1 never sends a heartbeat
        deadline = time.monotonic() + 30
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)
        text = (tmp_path / "stacks" / "rank-0.txt").read_text()
        assert ended == [1] and "rank 1 has been silent for 0.3 s" in text and "test_watched.py" in text
        for _ in range(2 * MOST):
            stalls.write("again")
        assert (tmp_path / "stacks" / "rank-0.txt").read_text().count("after step") == MOST
    gone = Stalls(tmp_path / "renamed", 0, 1.0)
    assert gone.write("a hang") is None and not (tmp_path / "renamed").exists()


def test_a_step_as_slow_as_the_others_is_not_a_hang(tmp_path: Path) -> None:
    patience = 0.3
    with Stalls(tmp_path, 0, patience) as stalls:
        for step in range(1, 30):
            stalls.progress(step)
            time.sleep(patience / BEATS)
        assert not (tmp_path / "stacks").exists()


def test_the_flight_recorder_is_on_unless_the_user_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_FR_BUFFER_SIZE", "TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DUMP_ON_TIMEOUT"):
        monkeypatch.setenv(name, "")  # registers the variable, so that monkeypatch restores it
        monkeypatch.delenv(name)
    monkeypatch.setenv("TORCH_NCCL_TRACE_BUFFER_SIZE", "7")
    record_collectives(tmp_path)
    found = {name: os.environ.get(name) for name in ("TORCH_FR_BUFFER_SIZE", "TORCH_FR_DUMP_TEMP_FILE")}
    assert found == {"TORCH_FR_BUFFER_SIZE": None, "TORCH_FR_DUMP_TEMP_FILE": f"{tmp_path}/nccl-rank-"}
    assert os.environ["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "1"
    monkeypatch.delenv("TORCH_NCCL_TRACE_BUFFER_SIZE")
    monkeypatch.setenv("TORCH_NCCL_DUMP_ON_TIMEOUT", "0")
    record_collectives(tmp_path / "other")
    assert os.environ["TORCH_FR_BUFFER_SIZE"] == "2000" and os.environ["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "0"
    assert os.environ["TORCH_FR_DUMP_TEMP_FILE"] == f"{tmp_path}/nccl-rank-"
