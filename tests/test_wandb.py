"""Runs with the real W&B client, offline."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.commands import WANDB_INSPECT, command, train, wait_for_line
from support.training import metrics_lines

from ranger21.config.compose import compose_config
from ranger21.run import experiment
from ranger21.system.errors import UserError
from ranger21.tracking.loggers.weights_and_biases import choices

wandb = pytest.importorskip("wandb", reason="pip install wandb")


def records(directory: Path) -> list[dict]:
    """Return all records of an offline run in order, over all of its parts."""
    found = []
    for path in sorted(directory.glob("wandb/*run-*/*.wandb"), key=lambda p: p.stat().st_mtime):
        done = subprocess.run([*WANDB_INSPECT, str(path)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found += [json.loads(line) for line in done.stdout.splitlines()]
    return found


def test_an_offline_run_contains_the_logged_metrics(tiny, tmp_path):
    directory = tmp_path / "run"
    overrides = [o for o in tiny if o != "logger=none"]
    done = train(*overrides, "logger=wandb", "logger.project=p", "logger.tags=[a]", f"run_dir={directory}")
    assert done.returncode == 0, done.stdout
    text = json.dumps(records(directory))
    for row in metrics_lines(directory):
        assert "train/loss" in row
    assert "val/acc1" in text and "best/val/acc1" in text and "resnet10t" in text and '"p"' in text


VARIABLES = {
    "WANDB_MODE": "disabled", "WANDB_PROJECT": "theirs", "WANDB_ENTITY": "team", "WANDB_RUN_GROUP": "pilot",
    "WANDB_TAGS": "a,b", "WANDB_NAME": "first", "WANDB_DIR": "/elsewhere", "WANDB_NOTES": "n", "WANDB_JOB_TYPE": "j",
}  # fmt: skip


def test_wandb_variables_apply_where_the_configuration_has_no_value(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def chosen(*overrides: str) -> dict:
        config = compose_config(["logger=wandb", "data.root=/data", *overrides])
        return choices(config.logger, Path("outputs/run-s0"), "paper")

    own = {"mode": "offline", "project": "ranger21", "entity": None, "group": "paper", "tags": None, "name": "run-s0"}
    assert chosen() == own | {"dir": "outputs/run-s0", "notes": None, "job_type": None}
    typed = {"mode": "online", "project": "mine", "entity": "me", "group": "g", "tags": ["t"], "name": "r"}
    typed |= {"notes": "mine, too", "job_type": "pilot"}
    overrides = [f"logger.{key}={value}" for key, value in typed.items() if key not in ("tags", "name", "notes")]
    overrides += ["logger.tags=[t]", "logger.run_name=r", 'logger.notes="mine, too"']
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    theirs = {"mode": "disabled", "project": "theirs", "entity": "team", "group": "pilot", "tags": ["a", "b"]}
    assert chosen() == theirs | {"name": "first", "dir": "/elsewhere", "notes": "n", "job_type": "j"}
    assert chosen(*overrides) == typed | {"dir": "/elsewhere"}
    none = chosen("logger.tags=[]", "logger.notes=''", "logger.job_type=''", "logger.group=''")
    assert (none["tags"], none["notes"], none["job_type"], none["group"]) == ([], "", "", "")


@pytest.mark.parametrize(
    ("typed", "variable", "sentence"),
    [
        ("logger.project=a/b", "", r"logger\.project=a/b is invalid: a W&B project name has"),
        (f"logger.tags=[{'x' * 65}]", "", r"logger\.tags=\['x+'\] is invalid: each W&B tag must have 1 to 64"),
        ("logger.project=''", "", r"logger\.project= is invalid: a W&B project name has 1 to 128"),
        ("", "WANDB_PROJECT=a:b", "WANDB_PROJECT=a:b is invalid"),
        ("", "WANDB_TAGS=a,,b", "WANDB_TAGS=a,,b is invalid"),
        ("", "WANDB_MODE=sometimes", "WANDB_MODE=sometimes is invalid: it must be online, offline or disabled"),
    ],
)
def test_values_that_wandb_rejects_are_refused_before_a_run_directory_exists(
    typed, variable, sentence, tiny, tmp_path, monkeypatch
):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(*variable.split("="))
    overrides = [o for o in tiny if o != "logger=none"]
    config = compose_config([*overrides, "logger=wandb", *([typed] if typed else [])])
    with pytest.raises(UserError, match=f"^{sentence}"):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wandb_disabled_by_its_variable_leaves_no_files(tiny, tmp_path):
    overrides = [o for o in tiny if o != "logger=none"]
    env = {"WANDB_MODE": "disabled"}
    done = train(*overrides, "logger=wandb", "trainer.steps=1", f"run_dir={tmp_path / 'run'}", env=env)
    assert done.returncode == 0 and "W&B is switched off" not in done.stdout, done.stdout
    assert not (tmp_path / "run" / "wandb").exists() and len(metrics_lines(tmp_path / "run")) == 1


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            name = (path.parent / "comm").read_text().strip()
            if name.startswith("wandb-core") and f"RUN_TEST={pid}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_training_continues_when_the_wandb_process_is_killed(tiny, tmp_path):
    overrides = [o for o in tiny if o != "logger=none"]
    overrides += ["logger=wandb", "trainer.epochs=60", f"run_dir={tmp_path / 'run'}"]
    mark = os.getpid()
    process = subprocess.Popen(**command(*overrides, env={"RUN_TEST": str(mark)}))
    wait_for_line(tmp_path / "run" / "metrics.jsonl", process)
    while not (victims := children_of(mark)) and process.poll() is None:
        time.sleep(0.05)
    assert victims, process.communicate()[0]  # the output says why W&B is off
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "W&B is switched off" in output and "Traceback" not in output, output
    assert metrics_lines(tmp_path / "run")[-1]["step"] == 300
    assert time.monotonic() - begin < 150
