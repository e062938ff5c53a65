"""scripts/submit.py: what it checks before sbatch, what it prints, and in which folder the jobs run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT
from support.slurm_cluster import Cluster

from ranger21.grid.submit import array_of, parse, tasks_of
from ranger21.system.errors import UserError

PYTHON = '#!/bin/bash\n[ "$1" = -c ] || echo "in $PWD: $*"\n'


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--wrap=true", "--", "seed=1"], "--wrap is not possible here"),
        (["-D", "/tmp", "--"], "-D is not possible here: go to that folder"),
        (["--export=NONE", "--"], "--export=NONE withholds variables"),
        (["seed=1"], "'seed=1' is not an option of sbatch: write -- before the arguments"),
        (["--array=5-1", "--"], "has no task: write the smaller number first"),
        (["--array=a", "--"], "--array=a is not possible"),
        (["--", "@runs.txt"], "needs an array: add --array=0-1."),
        (["--array=0-2", "--", "@runs.txt"], "runs.txt has no line 3, which task 2"),
        (["--array=0", "--", "@no.txt"], "no.txt, the file of runs, cannot be read"),
    ],
)
def test_a_wrong_command_line_is_refused(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.txt").write_text("seed=1\nseed=2\n")
    with pytest.raises(UserError) as told:
        tasks_of(parse(words))
    assert sentence in str(told.value)


def test_the_tasks_of_an_array_take_their_lines(tmp_path: Path) -> None:
    (tmp_path / "runs.txt").write_text("seed=1\tmodel=a b\nseed=2\nseed=3\n")
    options = parse(["--array", "0,2%4", "--dry-run", "--", f"@{tmp_path}/runs.txt", "debug=true"])
    assert options.dry_run and options.sbatch == ["--array", "0,2%4"]
    assert tasks_of(options) == [(0, ["seed=1", "model=a b", "debug=true"]), (2, ["seed=3", "debug=true"])]
    assert array_of(["-a", "1-5:2,9"]) == [1, 3, 5, 9] and array_of(["-n", "2"]) is None


@pytest.mark.timeout(300)
def test_a_job_is_checked_and_runs_where_the_command_was_typed(
    cluster: Cluster, tiny: list[str], tmp_path: Path
) -> None:
    python, place = tmp_path / "python", tmp_path / "else where"
    python.write_text(PYTHON)
    python.chmod(0o755)
    place.mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts/submit.py"), *words]
        env = cluster.env | {"PYTHON": str(python)}
        return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=200)

    refused = run("--gpus-per-node=40", "--", *tiny)
    assert refused.returncode == 1 and "Requested node configuration is not available" in refused.stderr
    lacking = run("-n", "1", "--", *tiny, f"data.root={tmp_path}/nowhere")
    assert lacking.returncode == 1 and "nowhere" in lacking.stderr
    planned = run("-n", "2", "--gpus-per-node=0", "--dry-run", "--", *tiny)
    assert planned.returncode == 0 and f"PYTHON={python} sbatch -n 2 --gpus-per-node=0 " in planned.stdout, (
        planned.stderr
    )
    assert not os.listdir(place) and not cluster.ask("squeue", "--noheader")
    done = run("-n", "2", "--gpus-per-node=0", "--", *tiny)
    assert done.returncode == 0 and f"run directory: {place}/outputs/" in done.stdout, done.stdout + done.stderr
    job = done.stdout.partition("submitted job ")[2].partition(":")[0]
    cluster.wait(job, "COMPLETED", "FAILED")
    output = (place / f"outputs/ranger21-{job}.out").read_text()
    assert output.count(f"in {place}: {ROOT}/train.py") == 2 and tiny[0] in output


def test_python_runs_in_the_container(tmp_path: Path) -> None:
    (tmp_path / "apptainer").write_text('#!/bin/bash\necho "$@"\n')
    (tmp_path / "apptainer").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RANGER21_IMAGE": "/images/torch.sif"}
    script = str(ROOT / "slurm/apptainer.sh")
    done = subprocess.run([script, "train.py", "seed=1"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == f"exec --nv --bind {tmp_path} /images/torch.sif python3 train.py seed=1\n"
