"""A grid on SLURM when its controller does not answer, or sbatch fails: what is remembered, and what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.grids import make_job
from support.project import ROOT
from support.slurm_cluster import Cluster

from ranger21.grid.progress import table
from ranger21.grid.slurm import SUBMITTED, Slurm
from ranger21.system.errors import UserError
from ranger21.system.terminal import wide_console

WHY = "%s: Unable to contact slurm controller (connect failure)"
SILENT = f"SLURM does not answer ({WHY}): run the same command again later, or on a login node."


@pytest.fixture
def silent(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which no controller answers the real squeue and sbatch."""
    for name, value in cluster.without_controller().items():
        monkeypatch.setenv(name, value)


def sbatch(place: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in for sbatch into the path."""
    place.mkdir(exist_ok=True)
    (place / "sbatch").write_text(f"#!/bin/bash\n{script}\n")
    (place / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")


@pytest.mark.usefixtures("silent")
def test_a_submission_that_failed_is_forgotten(tmp_path: Path) -> None:
    job, folder = make_job(tmp_path / "a"), tmp_path / "grid"
    with pytest.raises(UserError) as told:
        Slurm(folder, [], []).submit([job], 1, ["x"])
    assert str(told.value) == SILENT % "sbatch: error: Batch job submission failed"
    assert list(folder.iterdir()) == [] and Slurm(folder, [], []).queued() == {}  # squeue is not asked
    earlier = {str(tmp_path / "ended"): "runs-1_0"}
    make_job(tmp_path / "ended").directory.joinpath("result.json").write_text('{"status": "finished"}')
    (folder / SUBMITTED).write_text(json.dumps(earlier))
    with pytest.raises(UserError, match="does not answer"):
        Slurm(folder, [], []).submit([job], 1, ["x"])
    assert json.loads((folder / SUBMITTED).read_text()) == earlier


@pytest.mark.usefixtures("silent")
def test_without_an_answer_the_status_shows_what_the_disk_knows(tmp_path: Path) -> None:
    job, folder = make_job(tmp_path / "a"), tmp_path / "grid"
    folder.mkdir()
    (folder / SUBMITTED).write_text(json.dumps({str(job.directory): "runs-1_0"}))
    unknown = f"It is unknown whether the unfinished runs in {folder / SUBMITTED} are in its queue"
    doubt = f"{SILENT % 'slurm_load_jobs error'} {unknown}"
    slurm = Slurm(folder, [], [], looks=True)
    shown = str(table([job], slurm, wide_console(80)).caption)
    assert shown == f"1 runs: 1 stopped\nwarning: {doubt}."
    assert slurm.plan([job], 1, ["x"]).jobs == [job]
    with pytest.raises(UserError) as told:
        Slurm(folder, [], []).queued()
    assert str(told.value) == f"{doubt}. If none is, remove that file."


def test_a_submission_that_may_have_arrived_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch(tmp_path / "bin", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1", monkeypatch)
    job, folder = make_job(tmp_path / "a"), tmp_path / "grid"
    with pytest.raises(UserError, match=r"does not answer \(sbatch: error: Socket timed out"):
        Slurm(folder, [], []).submit([job], 1, None)
    assert json.loads((folder / SUBMITTED).read_text()) == {str(job.directory): "runs-1_0"}


def test_runs_whose_comparison_was_refused_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch(
        tmp_path / "bin", '[[ "$*" != *compare.sbatch* ]] && echo 17 || { echo no account >&2; exit 1; }', monkeypatch
    )
    with pytest.raises(UserError, match=r"submitted 1 run as array 17, but not the comparison.*: sbatch .* no account"):
        Slurm(tmp_path / "grid", [], []).submit([make_job(tmp_path / "a")], 1, ["x"])


def test_submit_says_that_slurm_does_not_answer_or_is_missing(
    cluster: Cluster, tiny: list[str], tmp_path: Path
) -> None:
    def run(**env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts/submit.py"), "--dry-run", "--", *tiny]
        env = cluster.env | {"PYTHON": sys.executable} | env
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)

    silent = run(**cluster.without_controller())
    assert (silent.returncode, silent.stderr) == (1, f"error: {SILENT % 'allocation failure'}\n")
    (tmp_path / "bash").symlink_to("/bin/bash")
    missing = run(PATH=str(tmp_path))
    assert missing.returncode == 0 and missing.stderr.startswith("warning: sbatch was not found, so SLURM has not")
