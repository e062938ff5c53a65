"""tune.py as a real command: killed, with two workers, as a SLURM array. No trial runs twice; the results are equal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT
from support.slurm_cluster import Cluster, until
from support.training import FORKSERVER, TINY, train_in_child

from ranger21.records.directory import in_use
from ranger21.tuning.plan import TuningRequest
from ranger21.tuning.search import Search

pytestmark = pytest.mark.timeout(400)
OPTIMIZERS = ("adamw", "lion", "nesterov")
KEPT = [word for word in TINY if not word.startswith(("trainer.epochs", "trainer.checkpoint"))]


def arguments(images: Path) -> list[str]:
    return [*KEPT, f"data.root={images}", "data.holdout=20", "trainer.steps=12", "trainer.checkpoint_every_steps=1"]


def command(images: Path, outputs: object, *more: str) -> list[str]:
    words = ["experiment=paper", "--seed=5", "--optimizers", ",".join(OPTIMIZERS), "--trials=1", *arguments(images)]
    return [sys.executable, str(ROOT / "scripts/tune.py"), *words, f"outputs={outputs}", *more]


def tune(images: Path, outputs: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(images, outputs, *more), capture_output=True, text=True, cwd=ROOT, timeout=300)


@pytest.fixture(scope="module")
def table(images: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tuned.json of trials that ran one by one in their own processes, without tune.py."""
    outputs = tmp_path_factory.mktemp("alone")
    asked = TuningRequest(("paper",), OPTIMIZERS, 1, 1, False, 5, str(outputs), tuple(arguments(images)))
    search = Search(asked)
    for tasks in search.phases():
        for task in tasks:
            child = FORKSERVER.Process(
                target=train_in_child, args=(list(task.job.overrides), task.job.directory, {}, None, "before")
            )
            child.start()
            child.join(120)
            assert child.exitcode == 0
    return search.write().read_bytes()


def starts(outputs: Path) -> list[int]:
    """Return how many processes worked on each run."""
    manifests = sorted(outputs.glob("tuning/paper/*/manifest.json"))
    return [len(json.loads(path.read_text())["sessions"]) for path in manifests]


def journal(outputs: Path) -> list[dict]:
    return [json.loads(line) for line in (outputs / "tuning/tuning.journal").read_text().splitlines()]


def test_a_killed_tuning_continued_by_two_workers_gives_the_same_table(
    images: Path, table: bytes, tmp_path: Path
) -> None:
    first = subprocess.Popen(command(images, tmp_path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until(lambda: list(tmp_path.glob("tuning/paper/*/checkpoints/last.pt")), 120, "a trial to begin")
    (held,) = [path.parent.parent for path in tmp_path.glob("tuning/paper/*/checkpoints/last.pt")]
    run = int((held / ".lock").read_text().split()[1])
    os.kill(run, signal.SIGSTOP)  # or it could finish before the workers start
    first.kill()
    first.wait()
    workers = [subprocess.Popen(command(images, tmp_path), cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    until(lambda: len(list(tmp_path.glob("tuning/paper/*/result.json"))) == 2, 200, "the others to end")
    assert in_use(held) and not (held / "result.json").exists()  # no worker took the run that is still in progress
    os.kill(run, signal.SIGKILL)
    outputs = [worker.communicate(timeout=200)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert (tmp_path / "tuning/tuned.json").read_bytes() == table
    assert sorted(starts(tmp_path)) == [1, 1, 2]  # only the killed one was resumed
    noted = journal(tmp_path)
    ended = [line["trial_id"] for line in noted if line["op_code"] == 6 and line["state"] == 1]
    assert sorted(ended) == [0, 1, 2] and [line["op_code"] for line in noted].count(4) == 3
    assert "lie beyond (--widen searches there)" in outputs[0] + outputs[1]


def test_a_slurm_array_gives_the_same_table(cluster: Cluster, images: Path, table: bytes) -> None:
    more = ("--launcher", "slurm", "--at-once", "2", "--sbatch=--gpus-per-node=0")
    options = {"cwd": cluster.project, "env": cluster.env, "capture_output": True, "text": True, "timeout": 200}

    def typed(*others: str) -> str:
        done = subprocess.run(command(images, "outputs/tuned", *more, *others), **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "submitted 3 runs as array" in typed()
    assert "nothing to submit" in typed() or not cluster.ask("squeue", "--noheader")
    outputs = cluster.project / "outputs/tuned"
    until(lambda: len(list(outputs.glob("tuning/paper/*/result.json"))) == 3, 300, cluster.logs)
    assert "wrote " in typed()
    assert (outputs / "tuning/tuned.json").read_bytes() == table
    assert starts(outputs) == [1, 1, 1]


def test_a_failed_trial_is_reported(images: Path, tmp_path: Path) -> None:
    more = ("--optimizers", "adamw", "--trials", "1")
    failed = tune(images, tmp_path, *more, f"data.root={tmp_path}/nowhere")
    assert failed.returncode == 1 and "failed: python train.py experiment=paper optimizer=adamw" in failed.stderr
    assert "Traceback" not in failed.stderr and not (tmp_path / "tuning/tuned.json").exists()
