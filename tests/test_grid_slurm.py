"""A whole comparison by one command on a real SLURM: it submits once, shows the status, and compares at the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.grids import FOUR_RUNS, QUICK
from support.project import ROOT
from support.slurm_cluster import Cluster, until

pytestmark = pytest.mark.timeout(600)


KILLED = """#!/bin/bash
# sbatch that outlives what called it: that is killed within the first call (the array's), or the second, and sbatch
# goes on when it may.
if ! mkdir "$PWD/first" 2>/dev/null || [ "$DIES_AT" = 1 ]; then
    kill -9 $PPID
    until [ -e "$PWD/go-on" ]; do sleep 0.1; done
fi
exec {sbatch} "$@"
"""


def elsewhere(cluster: Cluster) -> Path:
    """Return a folder that is not the project's, in which the commands are typed."""
    place = cluster.folder / "elsewhere"
    place.mkdir(exist_ok=True)
    return place


def grid(cluster: Cluster, tiny: list[str], name: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs reproduce.py with SLURM for four tiny runs."""
    kept = [override for override in tiny if not override.startswith(("trainer.", "logger="))]
    arguments = [*FOUR_RUNS, "--launcher", "slurm", "--at-once", "2", "--sbatch=--gpus-per-node=0", *kept, *QUICK]

    def reproduce(*more: str, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts/reproduce.py"), *arguments, f"outputs=outputs/{name}", *more]
        options = {"cwd": elsewhere(cluster), "capture_output": True, "text": True, "timeout": 200}
        return subprocess.run(command, env=cluster.env | env, **options)

    return reproduce


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_grid_is_submitted_once_and_compared_at_the_end(cluster: Cluster, tiny: list[str]) -> None:
    reproduce = grid(cluster, tiny, "grid")
    planned = said(reproduce("--dry-run"))
    assert "sbatch --parsable --array=0-3%2 --gpus-per-node=0" in planned
    assert "--dependency=afterany:ARRAY" in planned
    assert not (elsewhere(cluster) / "outputs/grid").exists()
    assert "submitted 4 runs as array" in said(reproduce())
    again = said(reproduce())
    assert "nothing to submit" in again and ("; nothing to do" in again or "4 running" not in again)
    seen = said(reproduce("--status"))
    assert "missing" not in seen and "stopped" not in seen
    grid_folder = elsewhere(cluster) / "outputs/grid"
    until(
        lambda: list(grid_folder.glob("paper-comparison-*/index.html")),
        400,
        lambda: cluster.ask("squeue") + cluster.logs(),
    )
    until(lambda: not cluster.ask("squeue", "--noheader"), 60, "the queue to be empty")
    runs = sorted((elsewhere(cluster) / "outputs/grid/paper").iterdir())
    assert [(run / "result.json").exists() for run in runs] == [True] * 4
    times = [(run / "result.json").stat().st_mtime_ns for run in runs]
    assert "4 ended" in said(reproduce()) and "4 finished" in said(reproduce("--status"))
    # A lost run is submitted again alone, followed by the comparison.
    for name in ("result.json", "manifest.json"):
        (runs[1] / name).unlink()
    assert "submitted 1 run as array" in said(reproduce())
    until(lambda: (runs[1] / "result.json").exists(), 200, lambda: cluster.ask("squeue") + cluster.logs())
    now = [(run / "result.json").stat().st_mtime_ns for run in runs]
    assert [a == b for a, b in zip(now, times, strict=True)] == [True, False, True, True]


def test_runs_added_later_start_after_the_others_and_cancel_ends_no_other_job(
    cluster: Cluster, tiny: list[str]
) -> None:
    reproduce = grid(cluster, tiny, "added")
    other = cluster.sbatch("--hold", "--wrap=true", "--output=/dev/null")
    held = "--sbatch=--hold --gpus-per-node=0"
    assert "nothing to cancel" in said(reproduce("--cancel"))
    first = said(reproduce(held)).partition("as array ")[2].partition(",")[0]
    later = said(reproduce(held, "--seeds", "3"))
    assert "6 runs: 0 ended, 4 running, starting or queued; 2 runs to do" in later and "submitted 2 runs" in later
    waits = cluster.ask("squeue", "--noheader", "--format=%A %E %o").splitlines()
    assert [f"afterany:{first}_" in line for line in waits if line.endswith("runs-2.txt")] == [True]
    numbers = [line.split()[0] for line in waits if "compare.sbatch" in line]
    cancelled = said(reproduce("--cancel", "--seeds", "3"))
    assert "cancelled 6 runs (0 running, 6 queued) of array " in cancelled
    assert all(number in cancelled for number in [first, *numbers]) and len(numbers) == 2
    until(lambda: cluster.ask("squeue", "--noheader", "--format=%A").split() == [other], 30, cluster.logs)


@pytest.mark.parametrize(("call", "then"), [(1, "submitted no run, and the comparison"), (2, "nothing to submit")])
def test_after_a_kill_during_submission_nothing_is_submitted_twice(call, then, cluster, tiny, tmp_path) -> None:
    """The command is killed before sbatch answers, so it never records the array's number."""
    (tmp_path / "sbatch").write_text(KILLED.format(sbatch=shutil.which("sbatch")))
    (tmp_path / "sbatch").chmod(0o755)
    reproduce = grid(cluster, tiny, f"killed-{call}")
    shutil.rmtree(elsewhere(cluster) / "first", ignore_errors=True)
    go_on = elsewhere(cluster) / "go-on"
    go_on.unlink(missing_ok=True)
    done = reproduce("--sbatch=--hold --gpus-per-node=0", PATH=f"{tmp_path}:{os.environ['PATH']}", DIES_AT=str(call))
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    meanwhile = reproduce()
    assert meanwhile.returncode == 1 and "Another reproduce.py is submitting" in meanwhile.stderr
    go_on.touch()
    again: list[subprocess.CompletedProcess[str]] = []

    def free() -> bool:
        again.append(reproduce())
        return "Another reproduce.py is submitting" not in again[-1].stderr

    until(free, 60, "the lock")
    assert then in said(again[-1]) and "nothing to submit" in said(reproduce())
    queue = cluster.ask("squeue", "--noheader", "--array", "--format=%i %o").splitlines()
    assert [line.endswith("runs-1.txt") for line in queue].count(True) == 4
    assert ["compare.sbatch" in line for line in queue].count(True) == 1 and len(queue) == 5
