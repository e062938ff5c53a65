"""The run directory: locking, recorded configuration and data, and metrics.jsonl."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.project import ROOT

from ranger21.config import Config
from ranger21.config.compose import compose_config
from ranger21.records.directory import RunDirectory, read_config
from ranger21.records.manifest import FORMAT
from ranger21.records.sessions import session
from ranger21.system.errors import UserError
from ranger21.system.files import write_atomically
from ranger21.tracking.jsonl import JsonLines

FORK = multiprocessing.get_context("fork")
DATA = {"fingerprint": "images-2:1", "names": "names:1", "classes": 10, "train_images": 80, "val_images": 30}
DATA |= {"root": "/data/imagenet"}


@pytest.fixture(scope="module")
def config() -> Config:
    return compose_config(["data.root=/data/imagenet"])


@pytest.fixture
def place(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "runs" / "one")


def changed(config: Config, part: str, **values: Any) -> Config:
    return replace(config, **{part: replace(getattr(config, part), **values)})


def start(place: RunDirectory, config: Config) -> None:
    """Prepare a directory as a run does before its first step."""
    assert place.look(config) is None
    place.claim(config)
    place.begin(DATA, session(1, "cpu", 0), "id")


HOLDER = """
import sys, time
from pathlib import Path
from ranger21.config.compose import compose_config
from ranger21.records.manifest import FORMAT
from ranger21.records.directory import RunDirectory
place = RunDirectory(Path(sys.argv[1]))
place.claim(compose_config(["data.root=/data/imagenet"]))
print("claimed", flush=True)
time.sleep(60)
"""


def test_two_processes_cannot_share_a_directory(place: RunDirectory, config: Config) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(place.path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "claimed\n"
        try:
            for _ in range(2):  # a refused process must not remove the holder's name
                with pytest.raises(UserError) as caught:
                    RunDirectory(place.path).look(config)
                who = f"process {holder.pid} on {socket.gethostname()}"
                assert str(caught.value).startswith(f"{place.path} is being used by {who}: wait for it")
        finally:
            holder.send_signal(signal.SIGKILL)
    place.claim(config)  # a killed process leaves no lock behind
    assert (place.path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_child_processes_do_not_keep_the_lock(place: RunDirectory, config: Config) -> None:
    """A loader process may outlive its run briefly, and must not block the next start."""
    child = HOLDER.replace("time.sleep(60)", "import os\nif os.fork() == 0:\n    time.sleep(30)")
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", child, str(place.path)], env=env, stdout=subprocess.PIPE, text=True, process_group=0
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "claimed\n"
        assert holder.wait(30) == 0
        try:
            place.claim(config)
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_the_configuration_can_be_read_back(place: RunDirectory, config: Config) -> None:
    start(place, config)
    assert read_config(place.config) == config and RunDirectory(place.path).look(config) is None


def test_resume_never_refuses_a_directory_with_a_run(place: RunDirectory, config: Config) -> None:
    never = replace(config, resume="never")
    start(place, never)
    with pytest.raises(
        UserError, match=r"already has a run, and resume=never: choose another run_dir=, or delete it\.$"
    ):
        RunDirectory(place.path).look(never)


def test_a_directory_whose_run_never_started_can_be_used_for_a_different_run(
    place: RunDirectory, config: Config
) -> None:
    place.claim(config)
    other = replace(config, seed=3, resume="never")
    again = RunDirectory(place.path)
    assert again.look(other) is None and again.held
    again.claim(other)
    assert read_config(place.config) == other


def test_error_names_the_settings_that_differ_from_the_recorded_run(place: RunDirectory, config: Config) -> None:
    start(place, config)
    other = replace(changed(config, "optimizer", lr=0.1, stable_decay=None), seed=3)
    with pytest.raises(UserError) as caught:
        RunDirectory(place.path).look(other)
    assert str(caught.value) == (
        f"{place.path} has another run (optimizer.lr: 0.003 there, 0.1 now; optimizer.stable_decay: layer there, None "
        "now; seed: 0 there, 3 now): choose another run_dir=, or delete it."
    )
    many = compose_config(["optimizer=adamw", "data=fashion_mnist"])
    with pytest.raises(UserError, match=r"\(data.augment: paper there, None now; .* and \d+ more\)"):
        RunDirectory(place.path).look(many)
    assert read_config(place.config) == config


def test_settings_that_do_not_change_results_may_change(place: RunDirectory, config: Config) -> None:
    start(place, config)
    moved = changed(config, "data", root="/elsewhere", workers=2, eval_batch_size=7)
    moved = changed(moved, "trainer", device="cpu", channels_last=False, checkpoint_every_minutes=None)
    assert RunDirectory(place.path).look(replace(moved, outputs="/runs", debug=True)) is None


@pytest.mark.parametrize("text", ["", "seed: 0\n", "seed: [\n", "just words", "a: ${nothing}\n"])
def test_an_unreadable_config_is_reported(place: RunDirectory, config: Config, text: str) -> None:
    start(place, config)
    place.config.write_text(text)
    with pytest.raises(UserError, match=f"{place.config} (cannot be read by this version|is damaged) "):
        RunDirectory(place.path).look(config)


def test_an_impossible_run_directory_is_refused(tmp_path: Path, config: Config) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=rf"^{path} cannot be a run directory \(.+\): choose another run_dir=\.$"):
            RunDirectory(path).look(config)


def test_a_finished_run_is_not_locked(place: RunDirectory, config: Config) -> None:
    start(place, config)
    place.finish({"status": "diverged", "step": 40})
    again = RunDirectory(place.path)
    assert again.look(config) == {"format": FORMAT, "status": "diverged", "step": 40} and not again.held


def test_each_session_is_added_to_the_manifest(place: RunDirectory, config: Config) -> None:
    place.claim(config)
    for step in (0, 7):
        place.begin(DATA, session(2, "cpu", step, precision="fp32"), "id")
    manifest = json.loads(place.manifest.read_text())
    assert manifest["data"] == DATA
    assert [s["resumed_from_step"] for s in manifest["sessions"]] == [0, 7]
    entry = manifest["sessions"][0]
    assert (entry["hardware"]["ranks"], entry["hardware"]["precision"]) == (2, "fp32")
    assert entry["command"][1:] == sys.argv
    assert {"python", "torch", "timm", "wandb"} <= {name for name, version in entry["packages"].items() if version}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert (entry["git"] or {"commit": ""})["commit"] == commit.stdout.strip()


def test_different_images_are_refused_and_both_roots_named(place: RunDirectory, config: Config) -> None:
    start(place, config)
    now = DATA | {"fingerprint": "images-2:2", "names": "names:2", "train_images": 79, "root": "/data/other"}
    with pytest.raises(UserError) as caught:
        RunDirectory(place.path).require_data(now)
    assert str(caught.value) == (
        f"The images are not those that {place.path} was started with (the names or classes of the files are not the "
        "same): data.root=/data/imagenet with 80 for training then, data.root=/data/other with 79 for training now. "
        "Restore them, or choose another run_dir= or outputs=."
    )
    RunDirectory(place.path).require_data(DATA | {"root": "/moved"})


def test_a_full_disk_is_reported_and_the_old_file_kept(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes writes beyond 10 kB fail, like a full disk."""
    result, metrics = tmp_path / "result.json", tmp_path / "metrics.jsonl"
    write_atomically(result, "old")

    def child(pipe: Any) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        tracker = JsonLines(metrics, 0)
        for write in (
            lambda: write_atomically(result, "new" * 10_000),
            lambda: [tracker.log({"step": step}) for step in range(2000)] and tracker.require_written(),
            lambda: tracker.close(1, {}),
        ):
            try:
                pipe.send(f"done {write()}")
            except (UserError, OSError) as error:
                pipe.send(f"{type(error).__name__}: {error}")

    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=child, args=(there,))
    process.start()
    assert here.recv().startswith(f"UserError: {result} could not be written (File too large): free disk space")
    assert here.recv().startswith(f"UserError: {metrics} could not be written (File too large): free disk space")
    assert here.recv() == "done None"  # no traceback may follow the error above
    process.join(30)
    assert result.read_text() == "old" and {path.name for path in tmp_path.iterdir()} == {result.name, metrics.name}


def read_lines(path: Path) -> list[dict[str, Any]]:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=no_constant) for line in path.read_text().splitlines()]


def test_every_line_is_json_and_flushed(tmp_path: Path) -> None:
    tracker = JsonLines(tmp_path / "metrics.jsonl", 0)
    tracker.log({"step": 2**60, "train/loss": 1 / 3, "lr": 1e-300, "grad_norm": math.inf, "val/acc1": math.nan})
    tracker.log({"step": 2, "train/loss": -math.inf, "epoch": 1.0})
    first, second = read_lines(tmp_path / "metrics.jsonl")  # before the tracker is closed
    assert first == {"step": 2**60, "train/loss": 0.33333333, "lr": 1e-300, "grad_norm": None, "val/acc1": None}
    assert second == {"step": 2, "train/loss": None, "epoch": 1.0}
    tracker.close(0, {})


def test_metrics_after_the_checkpoint_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = JsonLines(path, 0)
    tracker.log({"step": 1})
    tracker.sync()
    size = tracker.size
    tracker.log({"step": 2})
    tracker.close(143, {})
    with path.open("a") as file:
        file.write('{"step": 3, "tra')  # half a line, as after a kill
    again = JsonLines(path, size)
    assert again.size == size == path.stat().st_size
    again.log({"step": 2, "new": 1})
    again.close(0, {})
    assert read_lines(path) == [{"step": 1}, {"step": 2, "new": 1}]
    JsonLines(path, 0).close(0, {})
    assert path.stat().st_size == 0
