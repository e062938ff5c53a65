"""Launching a composition: its final runs beside other processes, arrays of SLURM, and the command line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.project import ROOT
from support.slurm_cluster import until

from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun
from ranger21.grid.slurm import Slurm
from ranger21.meta import options
from ranger21.system.errors import UserError

sys.path.insert(0, str(ROOT / "scripts"))


@pytest.fixture
def jobs(tmp_path: Path) -> list[PlannedRun]:
    config = compose_config(["experiment=demo", f"outputs={tmp_path}"])
    return [PlannedRun((f"seed={seed}",), replace(config, seed=seed), tmp_path / str(seed)) for seed in (100, 101)]


def test_final_runs_of_another_process_are_left_alone_and_awaited(
    jobs: list[PlannedRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no report before all have ended, and nothing that runs elsewhere is started here."""
    from compose import final_runs

    slurm, local = Slurm(tmp_path / ".grid", [], [], "compose.py"), argparse.Namespace(launcher="local", at_once=1)
    for job in jobs:
        job.directory.mkdir()
    (jobs[0].directory / "result.json").write_text(json.dumps({"status": "diverged"}))
    holds = (
        f"import fcntl; f = open({str(jobs[1].directory / 'launcher.txt')!r}, 'w'); fcntl.lockf(f, 2); print(input())"
    )
    with subprocess.Popen([sys.executable, "-Sc", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        until(lambda: jobs[1].launched, 30, "the lock")
        assert final_runs(jobs, slurm, local) == 0
        other.communicate(b"end\n")
    assert "Repeat this command when they have ended" in capsys.readouterr().out
    (jobs[1].directory / "result.json").write_text(json.dumps({"status": "finished"}))
    assert final_runs(jobs, slurm, local) is None


def test_an_array_has_a_run_that_two_searches_share_once(jobs: list[PlannedRun], tmp_path: Path) -> None:
    plan = Slurm(tmp_path / ".grid", [], [], "compose.py").plan([*jobs, jobs[0]], 2, None)
    assert list(plan.jobs) == jobs and "--array=0-1%2" in plan.array


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--search", "thompson,,tpe"], "--search thompson,,tpe has an empty name"),
        (["--search", ""], "--search is empty: choose from thompson, tpe, random"),
        (["--transfer", ","], "--transfer , has an empty name"),
        (["--search", "grid"], "There is no search 'grid'"),
        (["--search-only", "--transfer", "shapes"], "--search-only leaves out the final runs"),
    ],
)
def test_useless_options_are_refused(words: Sequence[str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compose.py", "experiment=demo", "--budget", "4", *words])
    with pytest.raises(UserError, match=sentence):
        options.parse()


def test_names_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--budget", "4", "--search", "tpe,random,tpe", "--transfer", "shapes,shapes"]
    monkeypatch.setattr(sys, "argv", ["compose.py", "experiment=demo", *words])
    parsed = options.parse()
    assert (parsed.search, parsed.transfer) == (["tpe", "random"], ["shapes"])
