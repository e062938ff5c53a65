"""Options that people give to sbatch, and stops with and without a requeue, on a real SLURM with a stand-in for Python.

The stand-in prints what srun gave to each task. Jobs therefore end within a second, and all of them run at once.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT
from support.slurm_cluster import Cluster, until

from ranger21.grid.sbatch import with_defaults

TRAIN = "slurm/train.sbatch"
PYTHON = """#!/bin/bash
[ "$1" = -c ] && exit 0
echo "task $SLURM_PROCID of $SLURM_STEP_NUM_TASKS on $SLURMD_NODENAME with $SLURM_CPUS_PER_TASK CPUs: $*"
"""
STOPPED = """#!/bin/bash
[ "$1" = -c ] && exit 0
[ -z "$SLURM_RESTART_COUNT" ] || exit 0
trap 'touch "$RANGER21_STOPPED"; exit 1' USR1 TERM
echo ready
while true; do sleep 0.2; done
"""
IDIOMS = {  # sbatch's options, and the number of tasks and of CPUs per task
    "--gres=gpu:a100:4": (4, 1),
    "-G 4": (4, 1),
    "-G a100:2": (2, 1),
    "--gpus-per-task=1 --ntasks=2": (2, 1),
    "--gpus-per-node=1 --cpus-per-gpu=2": (1, 2),
    "-n 2 --gpus-per-node=0": (2, 1),
    "-N 2 -n 3 -c 4 --gpus-per-node=0": (3, 4),
    "-N 2 --ntasks-per-node=2 --gpus=0": (4, 1),
    "-N 2 --gpus-per-node=2 --cpus-per-gpu=8": (4, 8),
    "-N 2 -G 8 --exclusive": (8, 8),
}
REFUSED = {
    "": "error: the job has no GPU. Submit it with --gpus-per-node=1",
    "-N 2 -G 3": "error: SLURM granted the nodes different numbers of GPUs.",
    "-N 2 -n 3 --gpus-per-task=1": "error: SLURM granted the nodes different numbers of GPUs.",
}
pytestmark = pytest.mark.timeout(300)


def executable(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_the_usual_options_start_the_tasks_that_they_mean(cluster: Cluster, tmp_path: Path) -> None:
    env = {"PYTHON": executable(tmp_path / "python", PYTHON)}
    jobs = {options: cluster.sbatch(*options.split(), TRAIN, "seed=1", env=env) for options in [*IDIOMS, *REFUSED]}
    for options, job in jobs.items():
        cluster.wait(job, "COMPLETED", "FAILED")
        output = cluster.output(job)
        if options in REFUSED:
            assert cluster.job(job) == "FAILED" and REFUSED[options] in output, (options, output)
            continue
        tasks, cpus = IDIOMS[options]
        found = sorted(re.findall(r"task (\d+) of (\d+) on node\d with (\d+) CPUs: train.py seed=1", output))
        assert found == [(str(task), str(tasks), str(cpus)) for task in range(tasks)], (options, output)


def test_a_stopped_job_says_how_to_continue_only_if_slurm_does_not_requeue_it(cluster: Cluster, tmp_path: Path) -> None:
    env = {"PYTHON": executable(tmp_path / "python", STOPPED)}
    kinds = ("scancel", "requeue", "warned", "preempted")
    where = {"preempted": "--partition=usual", "warned": "--partition=urgent"}
    jobs = {
        kind: cluster.sbatch("--gpus-per-node=0", where.get(kind, "--partition=graceful"), TRAIN, kind, env=env)
        for kind in kinds
    }
    for job in jobs.values():
        until(lambda job=job: "ready" in cluster.output(job), 60, lambda job=job: cluster.output(job) + cluster.logs())
    cluster.ask("scancel", jobs["scancel"])
    cluster.ask("scontrol", "requeue", jobs["requeue"])
    cluster.ask("scancel", "--signal=USR1", jobs["warned"])
    cluster.wait(jobs["scancel"], "CANCELLED")
    host = cluster.job(jobs["preempted"], "NodeList")
    options = ("--partition=urgent", f"--nodelist={host}", "--exclusive", "--output=/dev/null", "--wrap=true")
    cluster.sbatch(*options)
    for kind, job in jobs.items():
        told = "SLURM does not requeue the job. Continue" if kind == "scancel" else f"SLURM requeues job {job}."
        until(lambda job=job, told=told: told in cluster.output(job), 60, lambda job=job: cluster.output(job))
    assert "sbatch --partition=graceful --nodes=1 --gpus-per-node=0" in cluster.output(jobs["scancel"])
    for kind in kinds[1:]:
        assert "sbatch" not in cluster.output(jobs[kind]), kind


def test_an_interactive_shell_of_several_tasks_is_recognized(cluster: Cluster) -> None:
    """A command typed there is started once; srun within the shell, or srun --pty without one, starts every task."""
    ask = f'{sys.executable} -c \'from ranger21.system.ranks import environment as e; print("rank", e()["rank"])\''
    shell = "srun -n 2 --pty bash --norc"
    typed = f"{ask}\nsrun --overlap --ntasks=2 {ask} </dev/null\nexit\n"
    found = in_terminal(cluster, shell, typed)
    sentence = "is one of 2 tasks, and only this task would train: write srun --overlap --ntasks=2 before the command"
    assert sentence in found.replace("\r\n", ""), found
    assert sorted(re.findall(r"rank (\d)\r", found)) == ["0", "1"], found
    assert re.findall(r"rank (\d)\r", in_terminal(cluster, f"srun -n 2 --pty {ask}")) == ["0"]


def in_terminal(cluster: Cluster, command: str, typed: str = "") -> str:
    """Return the output of a command in a terminal in which text is typed."""
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe("bash", ["bash", "-c", f"exec {command}"], cluster.env)
    os.write(terminal, typed.encode())
    output = b""
    try:
        while part := os.read(terminal, 4096):
            output += part
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    os.waitpid(process, 0)
    return output.decode()


def test_a_python_without_the_packages_is_reported_before_training(tmp_path: Path) -> None:
    """A missing .venv is such a case. The script ends before it needs SLURM."""
    lacking = executable(tmp_path / "python", "#!/bin/bash\necho torch hydra\n")
    done = subprocess.run(
        ["bash", TRAIN], env={"PATH": "/usr/bin:/bin", "PYTHON": lacking}, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"error: {lacking} on " in done.stdout and "lacks torch hydra. Set PYTHON=" in done.stdout


def test_defaults_are_added_only_for_what_is_not_requested(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node has 32 CPUs and 4 GPUs."""
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    assert with_defaults(["-p", "usual"], {}) == ["--gpus-per-node=1", "--cpus-per-gpu=8", "-p", "usual"]
    assert with_defaults(["-G", "4"], {}) == ["--cpus-per-gpu=8", "-G", "4"]
    assert with_defaults([], {"SBATCH_GRES": "gpu:2", "SBATCH_CPUS_PER_TASK": "4"}) == []
    for options in (
        ["-G4", "-c", "2"],
        ["--gres", "gpu:a100:4", "--exclusive"],
        ["-n2", "--gpus-per-node=0"],
        ["-G", "0"],
    ):
        assert with_defaults(options, {}) == options
    assert with_defaults(["--partition=nowhere", "-G1"], {}) == ["--partition=nowhere", "-G1"]
