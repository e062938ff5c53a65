"""A whole comparison on a real SLURM by one command: submitted once, watched, compared when all have ended."""

from __future__ import annotations

import subprocess
import sys

import pytest
from slurm_cluster import Cluster, until
from test_grid import FOUR, QUICK, ROOT

pytest_plugins = ("slurm_cluster",)
pytestmark = pytest.mark.timeout(600)


def test_an_array_that_is_submitted_once_and_then_compared(cluster: Cluster, tiny: list[str]) -> None:
    kept = [override for override in tiny if not override.startswith(("trainer.", "logger="))]
    arguments = [*FOUR, "--launcher", "slurm", "--at-once", "2", "--sbatch=--gpus-per-node=0", *kept, *QUICK]

    def reproduce(*more: str) -> str:
        command = [sys.executable, str(ROOT / "scripts/reproduce.py"), *arguments, "outputs=outputs/grid", *more]
        done = subprocess.run(
            command, env=cluster.env, cwd=cluster.project, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    planned = reproduce("--dry-run")
    assert "sbatch --parsable --array=0-3%2 --gpus-per-node=0" in planned
    assert "--dependency=afterany:ARRAY" in planned
    assert not (cluster.project / "outputs/grid").exists()
    submitted = reproduce()
    assert "submitted 4 runs as array" in submitted
    again = reproduce()
    assert "4 running or held by SLURM" in again or "ended" in again
    assert "nothing to submit" in again
    seen = reproduce("--status")
    assert "queued" in seen or "running" in seen or "finished" in seen
    page = cluster.project / "outputs/grid/paper-comparison/index.html"
    until(page.exists, 400, lambda: cluster.ask("squeue") + cluster.logs())
    until(lambda: not cluster.ask("squeue", "--noheader"), 60, "the queue to be empty")
    runs = sorted((cluster.project / "outputs/grid/paper").iterdir())
    assert [(run / "result.json").exists() for run in runs] == [True] * 4
    times = [(run / "result.json").stat().st_mtime_ns for run in runs]
    assert "nothing to submit" in reproduce()
    # One that is lost is submitted alone, and the comparison after it.
    for name in ("result.json", "manifest.json"):
        (runs[1] / name).unlink()
    assert "submitted 1 runs as array" in reproduce()
    until(lambda: (runs[1] / "result.json").exists(), 200, lambda: cluster.ask("squeue") + cluster.logs())
    now = [(run / "result.json").stat().st_mtime_ns for run in runs]
    assert [a == b for a, b in zip(now, times, strict=True)] == [True, False, True, True]
