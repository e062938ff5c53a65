"""Single jobs on a real SLURM with two nodes (tests/support/slurm_cluster.py), and what clusters do to them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.project import ROOT
from support.slurm_cluster import Cluster, until
from support.training import TINY, assert_same_state, last_checkpoint, metrics_without_speed, result, run_ranks

from ranger21.wandb_tools.finding import find

TRAIN = "slurm/train.sbatch"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
NO_GPU = "--gpus-per-node=0"
TWO = ("--nodes=2", NO_GPU, "--mincpus=2")  # two nodes with one task each
pytestmark = pytest.mark.timeout(600)


def forty_steps(images: Path, epochs: int = 8) -> list[str]:
    """Return the overrides of a run that logs every step and saves checkpoints only when it is stopped or ends."""
    changed = ("trainer.checkpoint_every_steps", "trainer.epochs", "trainer.log_every_steps")
    kept = [value for value in TINY if not value.startswith(changed)]
    return [*kept, f"trainer.epochs={epochs}", "trainer.log_every_steps=1", f"data.root={images}"]


@pytest.fixture
def overrides(images: Path) -> list[str]:
    return forty_steps(images)


@pytest.fixture(scope="session")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(forty_steps(images), tmp_path_factory.mktemp("undisturbed") / "run")


def undisturbed(overrides: list[str], directory: Path) -> Path:
    """Train the same run to its end with two ranks, without SLURM."""
    assert run_ranks(overrides, directory, 2) == [0, 0]
    return directory


def wait_for_steps(cluster: Cluster, job: str, directory: Path, lines: int = 3) -> None:
    """Wait until the run has logged this many steps."""
    metrics = directory / "metrics.jsonl"
    describe = lambda: f"{cluster.job(job)} {cluster.output(job)} {cluster.logs()}"  # noqa: E731
    until(lambda: metrics.exists() and metrics.read_text().count("\n") >= lines, 180, describe)


def sessions(directory: Path) -> list[dict]:
    return json.loads((directory / "manifest.json").read_text())["sessions"]


def assert_undisturbed(directory: Path, whole: Path) -> None:
    """Assert that metrics and weights equal those of the undisturbed run bit for bit."""
    assert result(directory)["status"] == "finished"
    assert metrics_without_speed(directory) == metrics_without_speed(whole)
    assert_same_state(last_checkpoint(directory), last_checkpoint(whole))


def test_the_demo_runs_on_two_nodes_and_is_not_repeated_when_finished(cluster, overrides):
    """Each GPU gets one task and an equal share of the CPUs; repeating the finished run ends at once."""
    small = ["experiment=demo", *overrides, "trainer.steps=4", "run_dir=outputs/demo"]
    job = cluster.sbatch("--nodes=2", "--gpus-per-node=1", TRAIN, *small)
    cluster.wait(job, *ENDED)
    assert cluster.job(job) == "COMPLETED", cluster.output(job)
    directory = cluster.project / "outputs/demo"
    assert result(directory)["status"] == "finished"
    assert sessions(directory)[0]["hardware"]["ranks"] == 2
    assert cluster.job(job, "NodeList") == "node[1-2]" and "on cpu x 2" in cluster.output(job)
    again = cluster.sbatch("--gpus-per-node=1", TRAIN, *small)
    cluster.wait(again, *ENDED)
    assert cluster.job(again) == "COMPLETED" and "nothing to do" in cluster.output(again)


def requeued(cluster: Cluster, job: str) -> None:
    until(lambda: cluster.job(job, "Restarts") == "1", 180, lambda: f"{cluster.output(job)}\n{cluster.logs()}")


def finish_after_requeue(cluster: Cluster, job: str, directory: Path, seconds: float = 200) -> None:
    """Wait until the job has been requeued, has resumed from its checkpoint, and has ended."""
    requeued(cluster, job)
    cluster.wait(job, *ENDED, seconds=seconds)
    assert cluster.job(job) == "COMPLETED", cluster.output(job)
    assert [session["resumed_from_step"] > 0 for session in sessions(directory)] == [False, True]


def test_a_warned_run_is_requeued_and_continues(cluster, overrides, whole):
    """W&B also sees one run with each step once."""
    directory = cluster.project / "outputs/warned"
    overrides = [*(value for value in overrides if value != "logger=none"), "logger=wandb"]
    job = cluster.sbatch(*TWO, TRAIN, *overrides, f"run_dir={directory}")
    wait_for_steps(cluster, job, directory)
    cluster.ask("scancel", "--signal=USR1", job)
    finish_after_requeue(cluster, job, directory)
    assert f"SLURM requeues job {job}" in cluster.output(job)
    assert_undisturbed(directory, whole)
    (run,), unreadable = find([str(directory)])
    assert (len(run.fragments), unreadable) == (2, [])
    assert [row["step"] for part in run.fragments for row in part.rows] == list(range(1, 41))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_continues_after_its_time_limit(cluster, images, tmp_path):
    """The limit is real: two minutes, with SLURM's warning one minute before it."""
    overrides, directory = forty_steps(images, epochs=600), cluster.project / "outputs/limit"
    whole = undisturbed(overrides, tmp_path / "whole")
    job = cluster.sbatch(*TWO, "--time=2", "--signal=USR1@60", TRAIN, *overrides, f"run_dir={directory}")
    wait_for_steps(cluster, job, directory)
    requeued(cluster, job)
    cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=60")  # or it might stop again
    finish_after_requeue(cluster, job, directory, seconds=400)
    assert_undisturbed(directory, whole)


def test_a_run_continues_on_the_remaining_node(cluster, overrides):
    """One of two nodes is lost; the run continues on the other with one rank and the same batch."""
    directory = cluster.project / "outputs/lost"
    more = ["trainer.checkpoint_every_steps=2", f"run_dir={directory}"]
    env = {"RANGER21_PATIENCE": "30"}
    job = cluster.sbatch("--nodes=1-2", *TWO[1:], TRAIN, *overrides, *more, env=env)
    wait_for_steps(cluster, job, directory)
    assert cluster.job(job, "NumNodes") == "2"
    cluster.kill_node("node2")
    requeued(cluster, job)
    until(lambda: "The job has lost a node" in cluster.output(job), 10, lambda: cluster.output(job))
    left = cluster.project / f"outputs/.printed-{job}-1"
    left.write_text("the reason\n")  # as left by a batch script that was killed before it showed everything
    time.sleep(7)  # or SLURM restarts it at once, and the other node rejects its old credential (cred_expire)
    cluster.give_up("node2")
    finish_after_requeue(cluster, job, directory)
    assert "Last output of node 1 before the job was requeued:\nthe reason\n" in cluster.output(job)
    assert not left.exists()
    assert [session["hardware"]["ranks"] for session in sessions(directory)] == [2, 1]
    assert result(directory)["step"] == 40
    assert [line["step"] for line in metrics_without_speed(directory)] == list(range(1, 41))


@pytest.mark.slow
def test_a_run_continues_after_the_loss_of_its_only_node(cluster, overrides):
    """The node also ran the batch script, so SLURM itself runs the job again on the other node."""
    directory = cluster.project / "outputs/whole-job"
    more = ["trainer.checkpoint_every_steps=2", f"run_dir={directory}"]
    job = cluster.sbatch(NO_GPU, TRAIN, *overrides, *more)
    wait_for_steps(cluster, job, directory)
    host = cluster.job(job, "BatchHost")
    cluster.kill_node(host)
    cluster.give_up(host)
    finish_after_requeue(cluster, job, directory)
    assert len({session["hardware"]["host"] for session in sessions(directory)}) == 2


@pytest.mark.parametrize("partition", ["graceful", pytest.param("usual", marks=pytest.mark.slow)])
def test_a_preempted_run_continues_afterwards(partition, cluster, overrides, whole):
    """`graceful` warns with SIGTERM and waits; `usual` kills the job, and SLURM itself runs it again."""
    directory = cluster.project / f"outputs/{partition}"
    job = cluster.sbatch(f"--partition={partition}", *TWO, TRAIN, *overrides, f"run_dir={directory}")
    wait_for_steps(cluster, job, directory)
    urgent = cluster.sbatch("--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 2")
    finish_after_requeue(cluster, job, directory)
    assert cluster.job(urgent) == "COMPLETED"
    assert_undisturbed(directory, whole)


def test_an_array_job_and_a_comparison_that_depends_on_it(cluster, overrides, tmp_path):
    """Each task takes its line of a file of runs; one task is warned and requeued, which does not affect the others."""
    runs = [[*overrides, f"optimizer={name}", f"seed={seed}"] for name in ("ranger21", "adamw") for seed in (0, 1)]
    runs[0] += ["run_dir=outputs/array/paper/first"]
    runs[1:] = [[*run, "trainer.epochs=1"] for run in runs[1:]]
    (tmp_path / "runs.txt").write_text("".join("\t".join(run) + "\n" for run in runs))
    array = cluster.sbatch("--array=0-3%2", NO_GPU, TRAIN, f"@{tmp_path}/runs.txt", "outputs=outputs/array")
    after = cluster.sbatch(f"--dependency=afterok:{array}", "slurm/compare.sbatch", "outputs/array/paper")
    folder = cluster.project / "outputs/array/paper"
    wait_for_steps(cluster, f"{array}_0", folder / "first")
    # scancel assumes that an array task refused the signal, and sends it again after 5 s, to the requeued task.
    cluster.ask("timeout", "3", "scancel", "--signal=USR1", f"{array}_0")
    cluster.wait(after, *ENDED, seconds=400)
    assert cluster.job(after) == "COMPLETED", cluster.output(after)
    restarts = [cluster.job(f"{array}_{task}", "Restarts") for task in range(4)]
    assert restarts == ["1", "0", "0", "0"], cluster.logs()
    assert len([*folder.glob("*/result.json")]) == 4 and "adamw" in cluster.output(after)


@pytest.mark.parametrize(("task", "line"), [("5", 6), (None, 0)])
def test_an_array_task_without_a_line_in_the_list_trains_nothing(task, line, tmp_path):
    """The task would otherwise train the default run. (The script ends before it needs SLURM.)"""
    (tmp_path / "runs.txt").write_text("seed=0\nseed=1\n")
    env = {"PATH": os.environ["PATH"], "PYTHON": sys.executable} | ({"SLURM_ARRAY_TASK_ID": task} if task else {})
    done = subprocess.run(
        ["bash", TRAIN, f"@{tmp_path}/runs.txt"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and f"runs.txt has no line {line}. Use --array" in done.stdout


def test_site_scripts_may_be_lax_and_a_missing_python_is_reported(tmp_path):
    """Environment modules return non-zero codes and use unset variables. (The scripts end before they need SLURM.)"""
    (tmp_path / "site.sh").write_text("echo at home: $NOT_SET\nfalse\n")
    env = {"PATH": os.environ["PATH"], "RANGER21_SITE": f"{tmp_path}/site.sh"}
    run = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 60}
    (tmp_path / "python").write_text('#!/bin/bash\n[ "$1" = -c ] || echo "$@"\n')
    (tmp_path / "python").chmod(0o755)
    python = {"PYTHON": f"{tmp_path}/python"}
    compared = subprocess.run(["bash", "slurm/compare.sbatch", "outputs/x"], env=env | python, **run)
    assert (compared.returncode, compared.stdout) == (0, "at home:\nscripts/compare.py outputs/x\n")
    for script in (TRAIN, "slurm/compare.sbatch"):
        elsewhere = subprocess.run(["bash", str(ROOT / script)], env=env, **run | {"cwd": tmp_path})
        assert elsewhere.returncode == 1
        assert f"error: run sbatch in the project's folder, not in {tmp_path}." in elsewhere.stdout
        done = subprocess.run(["bash", script, "seed=0"], env=env | {"PYTHON": "/no/python"}, **run)
        assert done.returncode == 1 and "error: PYTHON=/no/python does not exist on " in done.stdout


FAILURES = {
    "at once": 'if [ "$SLURM_PROCID" = 1 ]; then echo no GPU here; exit 3; fi',
    "killed": 'if [ "$SLURM_PROCID" = 1 ]; then (until [ -s "$METRICS" ]; do sleep 0.1; done; kill -9 $$) & fi',
    "hung": 'if [ "$SLURM_PROCID" = 1 ]; then (until [ -s "$METRICS" ]; do sleep 0.1; done; kill -STOP $$) & fi',
    "late": 'if [ "$SLURM_PROCID" = 1 ]; then exec sleep 600; fi',
}
SENTENCES = {
    "at once": "no GPU here",
    "killed": "task 1: Killed",
    "hung": "has been silent",
    "late": "did not meet the others",
}


@pytest.mark.parametrize("how", ["at once", "killed", "late", pytest.param("hung", marks=pytest.mark.slow)])
def test_a_rank_that_fails_ends_the_job(how, cluster, overrides, tmp_path):
    """The job must end at once, not at the time limit, and must not be requeued."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\n{FAILURES[how]}\nexec {cluster.env["PYTHON"]} "$@"\n')
    python.chmod(0o755)
    directory = cluster.project / "outputs" / how.replace(" ", "-")
    patience = {"late": "15", "hung": "30"}.get(how, "50")
    env = {"PYTHON": str(python), "RANGER21_PATIENCE": patience, "METRICS": f"{directory}/metrics.jsonl"}
    job = cluster.sbatch(*TWO, TRAIN, *overrides, "trainer.epochs=4000", f"run_dir={directory}", env=env)
    if how in ("killed", "hung"):
        wait_for_steps(cluster, job, directory, lines=1)
        (cluster.project / f"outputs/.printed-{job}-0").unlink()  # must not cause an error every second
    begin = time.monotonic()
    cluster.wait(job, *ENDED)
    assert time.monotonic() - begin < 60
    assert cluster.job(job) == "FAILED" and cluster.job(job, "Restarts") == "0", cluster.output(job)
    assert "No such file" not in cluster.output(job)
    assert SENTENCES[how] in cluster.output(job) and "requeues job" not in cluster.output(job), cluster.output(job)


def test_a_job_that_cannot_requeue_itself_prints_the_command(cluster, overrides, tmp_path):
    """The cases are: no permission, no scontrol, no warning. Each saves a checkpoint, and the command resumes it."""
    (tmp_path / "scontrol").write_text("#!/bin/bash\necho 'slurm_requeue error: Access denied' >&2; exit 1\n")
    (tmp_path / "scontrol").chmod(0o755)
    (tmp_path / "alone").mkdir()
    for name in ("srun", "sed", "rm", "cat", "sleep", "bash", "timeout", "git"):
        (tmp_path / "alone" / name).symlink_to(str(shutil.which(name)))
    paths = {"no-right": f"{tmp_path}:{os.environ['PATH']}", "no-scontrol": f"{tmp_path}/alone", "no-warning": None}
    jobs = {}
    for name, path in paths.items():
        directory = cluster.project / "outputs" / name
        more = ["trainer.epochs=400", f"run_dir={directory}"]
        with_path = [f"--export=ALL,PATH={path}"] if path else []
        jobs[name] = cluster.sbatch(NO_GPU, *with_path, TRAIN, *overrides, *more), directory
    for name, (job, directory) in jobs.items():
        wait_for_steps(cluster, job, directory)
        cluster.ask("scancel", *([] if name == "no-warning" else ["--signal=USR1"]), job)
    for name, (job, directory) in jobs.items():
        cluster.wait(job, *ENDED)
        assert cluster.job(job) == ("CANCELLED" if name == "no-warning" else "FAILED"), cluster.output(job)
        assert "Stopped at step" in (directory / "log.txt").read_text()
        assert last_checkpoint(directory)["progress"]["step"] > 0
        assert cluster.job(job, "Restarts") == "0"
    sentence = cluster.output(jobs["no-right"][0])
    for job, directory in jobs.values():
        layout = "--nodes=1 --gpus-per-node=0 --ntasks=1 --cpus-per-task=1"
        assert f"sbatch --partition=usual {layout} {TRAIN}" in cluster.output(job)
        quoted = str(directory).replace("$", r"\$")  # as is the folder in the printed cd command
        assert f"run_dir={quoted}" in cluster.output(job)
    typed = re.findall(r"^  cd .*", sentence, re.MULTILINE)[-1]
    directory = jobs["no-right"][1]
    done = subprocess.run(["bash", "-c", typed], env=cluster.env, capture_output=True, text=True, timeout=60)
    job = done.stdout.split()[-1]
    until(lambda: len(sessions(directory)) == 2, 120, lambda: cluster.output(job))
    assert sessions(directory)[1]["resumed_from_step"] > 0
    cluster.ask("scancel", job)


def test_a_sweep_with_hydras_submitit_launcher(cluster, overrides):
    """The sweep has two runs, each on two nodes."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'ranger21-imagenet[slurm]'")
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.nodes=2", "hydra.launcher.timeout_min=10"]
    command = [cluster.env["PYTHON"], "train.py", "-m", *launcher, *overrides, "trainer.steps=4", "seed=0,1"]
    env = cluster.env | {"PATH": f"{cluster.folder}/bin:{os.environ['PATH']}"}
    options = {"cwd": cluster.project, "env": env, "text": True, "timeout": 280}
    done = subprocess.run([*command, "outputs=outputs/sweep"], stdout=-1, stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, done.stdout
    found = [*(cluster.project / "outputs/sweep").glob("paper/*")]
    assert len(found) == 2 and {result(path)["status"] for path in found} == {"finished"}
    assert {sessions(path)[0]["hardware"]["ranks"] for path in found} == {2}


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="needs shellcheck: apt-get install shellcheck")
def test_shellcheck_finds_nothing():
    files = [*ROOT.glob("slurm/*.sbatch"), *ROOT.glob("slurm/**/*.sh")]
    assert len(files) >= 3
    done = subprocess.run(["shellcheck", *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
