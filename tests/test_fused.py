"""The fused step: in Triton's interpreter, on a fake GPU, refused, and in a run."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.optimizers import Operations
from support.project import ROOT
from support.training import assert_same_state, last_checkpoint, train_in_child
from torch._subclasses import FakeTensorMode
from torch.nn import Parameter

from ranger21 import Ranger21
from ranger21.config.compose import compose_config
from ranger21.optim.chain import Chain
from ranger21.run.experiment import run as start
from ranger21.system.errors import UserError

pytest.importorskip("triton")


def test_the_fused_step_passes_its_tests_in_tritons_interpreter() -> None:
    env = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    args = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "tests/interpreted/fused.py"]
    done = subprocess.run(args, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


HOST = ("detach", "alias", "view", "device", "_record_function_enter_new", "_record_function_exit")  # no launches


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_fused_step_has_three_launches_on_a_fake_gpu(scope: str) -> None:
    """A mean over all parameters adds one. Nothing waits for the device."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        params = [Parameter(torch.empty(shape)) for shape in ((3, 4), (5,), ())]
        optimizer = Ranger21(params, stable_decay=scope)
        assert optimizer._step_supports_amp_scaling
        for step in range(3):
            for param in params:
                param.grad = None if step == 1 and param.ndim == 1 else torch.empty_like(param)
            with Operations() as operations:
                optimizer.step()
        launched = {name: n for name, n in operations.names.items() if name not in HOST}
        assert launched == {"observe": 1, "settle": 1, "move": 1} | ({"div": 1} if scope == "global" else {})


REFUSED = {
    "a GPU": (lambda: Ranger21([torch.zeros(3)], fused=True)),
    "float64": (lambda: Ranger21([torch.zeros(3, dtype=torch.float64, device="cuda")], fused=True)),
    "capturable": (lambda: Ranger21([torch.zeros(3, device="cuda")], fused=True, capturable=True)),
    "not first_moment, second_moment, rectify": (
        lambda: Chain([torch.zeros(3, device="cuda")], 1.0, ["first_moment", "second_moment", "rectify"], fused=True)
    ),
    "exclude each other": (lambda: Ranger21([torch.zeros(3, device="cuda")], fused=True, foreach=True)),
    "row by row": (lambda: Ranger21([torch.zeros(4, 6, device="cuda")[:, ::2]], fused=True)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_fused_true_is_refused_if_the_step_cannot_be_fused(words: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(ValueError, match=words):
        REFUSED[words]()


def test_by_default_a_step_is_fused_only_where_possible() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        param = Parameter(torch.empty(4, dtype=torch.float64))
        param.grad = torch.empty_like(param)
        optimizer = Ranger21([param])
        with Operations() as operations:
            optimizer.step()
    assert not optimizer._step_supports_amp_scaling and "observe" not in operations.names


def three_runs(overrides: list[str], place: Path) -> None:
    """Train to the end; kill a second run; resume it. Each run is forked, so that it keeps Triton's interpreter."""
    for decay in (1e-4, 0.0):  # the runs inherit the result of the step's self-check
        Ranger21([Parameter(torch.ones(2))], weight_decay=decay, fused=True)
    fork, ends = multiprocessing.get_context("fork"), []
    for name, die_at in (("whole", None), ("killed", 2), ("killed", None)):
        process = fork.Process(target=train_in_child, args=(overrides, place / name, {}, die_at, "before"))
        process.start()
        process.join()
        ends.append(process.exitcode)
    assert ends == [0, -9, 0], ends


def test_a_killed_run_with_the_fused_step_resumes_exactly(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    small = [one.replace("[8,16,16,16],stem_width:8", "[4,4,4,4],stem_width:4") for one in tiny]
    overrides = [*small, "optimizer.fused=true", "trainer.steps=3", "trainer.checkpoint_every_steps=1"]
    process = multiprocessing.get_context("spawn").Process(target=three_runs, args=(overrides, tmp_path))
    process.start()
    process.join(240)
    assert process.exitcode == 0, [path.read_text()[-2000:] for path in tmp_path.glob("*.out")]
    assert_same_state(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "whole"))


def test_a_run_without_a_gpu_refuses_the_fused_step(tiny: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"optimizer\.fused=true: .* is on cpu, and Triton's kernels need a GPU"):
        start(compose_config([*tiny, "optimizer.fused=true"]), tmp_path / "run")
