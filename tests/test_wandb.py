"""The real W&B, offline."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import LEET, command, lines, train
from test_resume import wait_for_a_line

wandb = pytest.importorskip("wandb", reason="pip install wandb")


def records(directory: Path) -> list[dict]:
    """What an offline run holds, in order, over all of its parts."""
    found = []
    for path in sorted(directory.glob("wandb/*run-*/*.wandb"), key=lambda p: p.stat().st_mtime):
        done = subprocess.run([*LEET, str(path)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        found += [json.loads(line) for line in done.stdout.splitlines()]
    return found


def test_the_same_numbers_offline(tiny, tmp_path):
    directory = tmp_path / "run"
    overrides = [o for o in tiny if o != "logger=none"]
    done = train(*overrides, "logger=wandb", "logger.project=p", "logger.tags=[a]", f"run_dir={directory}")
    assert done.returncode == 0, done.stdout
    text = json.dumps(records(directory))
    for row in lines(directory):
        assert "train/loss" in row
    assert "val/acc1" in text and "best/val/acc1" in text and "resnet10t" in text and '"p"' in text


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


def test_training_goes_on_when_the_wandb_process_is_killed(tiny, tmp_path):
    overrides = [o for o in tiny if o != "logger=none"]
    overrides += ["logger=wandb", "trainer.epochs=60", f"run_dir={tmp_path / 'run'}"]
    mark = os.getpid()
    process = subprocess.Popen(**command(*overrides, env={"RUN_TEST": str(mark)}))
    wait_for_a_line(tmp_path / "run" / "metrics.jsonl", process)
    victims = children_of(mark)
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    begin = time.monotonic()
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    assert "W&B is switched off" in output and "Traceback" not in output, output
    assert lines(tmp_path / "run")[-1]["step"] == 300
    assert time.monotonic() - begin < 150


def test_unreachable_wandb_does_not_stop_a_run(tiny, tmp_path):
    overrides = [o for o in tiny if o != "logger=none"]
    env = {
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_MODE": "",
        "WANDB_INIT_TIMEOUT": "5",
    }
    done = train(*overrides, "logger=wandb", "logger.mode=online", f"run_dir={tmp_path / 'run'}", env=env)
    assert done.returncode == 0 and "W&B is switched off" in done.stdout, done.stdout
    assert lines(tmp_path / "run")[-1]["step"] == 20
