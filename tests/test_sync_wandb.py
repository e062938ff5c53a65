"""sync_wandb.py: offline runs of the real trainer and W&B client are merged and sent to a simulated server."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import WANDB_INSPECT, command, wait_for_line
from support.project import ROOT
from support.training import FORKSERVER, TINY, metrics_lines, result, run_ranks

from ranger21.config.compose import compose_config
from ranger21.engine import loop
from ranger21.faults.wandb_server import Server
from ranger21.run import experiment
from ranger21.system.errors import UserError
from ranger21.wandb_tools.file import Fragment, read_fragment
from ranger21.wandb_tools.finding import find
from ranger21.wandb_tools.merged import FoundRun, outcome
from ranger21.wandb_tools.sync import QUIET, sync

pytest.importorskip("wandb", reason="pip install wandb")


def offline(tiny: list[str]) -> list[str]:
    return [*(o for o in tiny if o != "logger=none"), "logger=wandb", "logger.project=p", "logger.tags=[a]"]


def killed_after_a_flush(overrides: list[str], directory: Path, step: int) -> None:
    """Train up to `step` in a child, wait until W&B has flushed its data (15 seconds), and kill the process."""
    real = loop.take_step

    def patient(setup, state, number, clock):
        if number == step:
            (path,) = directory.glob("wandb/offline-run-*/*.wandb")
            while not any(row["step"] == 14 for row in read_fragment(path).rows):  # W&B holds back the last row
                time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(setup, state, number, clock)

    loop.take_step = patient
    experiment.run(compose_config(overrides), directory)


@pytest.fixture(scope="module")
def requeued(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed after step 16, whose checkpoint was of step 10, and resumed: W&B has steps 12 and 14 twice."""
    root = tmp_path_factory.getbasetemp()
    place = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "requeued"  # shared by all pytest workers
    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            make_requeued(images, place)
    return place


def make_requeued(images: Path, place: Path) -> None:
    more = ["trainer.checkpoint_every_steps=null", "trainer.eval_every_epochs=2", f"data.root={images}"]
    overrides = offline([*TINY, *more])
    process = FORKSERVER.Process(target=killed_after_a_flush, args=(overrides, place, 17))
    process.start()
    process.join(200)
    assert process.exitcode == -signal.SIGKILL
    assert run_ranks(overrides, place, 1) == [0]
    for path in place.glob("wandb/offline-run-*/*.wandb"):
        os.utime(path, (time.time() - 2 * QUIET,) * 2)


@pytest.fixture
def run(requeued: Path, tmp_path: Path) -> Path:
    """The run in a folder whose name contains "error"."""
    return Path(shutil.copytree(requeued, tmp_path / "no error"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield server


def script(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(ROOT / "scripts" / "sync_wandb.py"), *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=timeout)


def test_fragments_arrive_as_one_run(run, server):
    """The server gets one run with each step once and the right values; a second sync sends nothing."""
    parts = [[row["step"] for row in part.rows] for part in find([str(run)])[0][0].fragments]
    assert parts == [[2, 4, 6, 8, 10, 12, 14], [12, 14, 16, 18, 20]]
    done = script(str(run))
    assert done.returncode == 0 and "sent: " in done.stdout, done.stdout + done.stderr
    (received,) = server.runs.values()
    assert [row["_step"] for row in received.history] == [row["step"] for row in metrics_lines(run)]
    for row, logged in zip(received.history, metrics_lines(run), strict=True):
        assert {name: row[name] for name in logged} == pytest.approx(logged, rel=1e-7)
    best = result(run)["best"]
    assert {name: received.summary[f"best/{name}"] for name in best} == pytest.approx(best)
    assert (received.exit_code, received.summary["status"], received.summary["step"]) == (0, "finished", 20)
    assert (received.fields["displayName"], received.fields["tags"]) == ("requeued", ["a"])
    assert json.loads(received.fields["config"])["optimizer"]["value"]["name"] == "ranger21"
    assert "requirements.txt" in received.files

    again = script(str(run))
    assert again.returncode == 0 and "nothing new" in again.stdout and received.lines == len(received.history)
    inspected = subprocess.run(
        [*WANDB_INSPECT, *map(str, run.glob("wandb/offline-merged/*.wandb"))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    records = [json.loads(line) for line in inspected.stdout.splitlines()]
    steps = [record["history"]["step"]["num"] for record in records if record["type"] == "history"]
    assert steps == [row["step"] for row in metrics_lines(run)]
    assert records[-1]["exit"] in ({}, {"exit_code": 0})


def test_wandb_sync_itself_repeats_or_loses_steps(run, server):
    """The script exists because `wandb sync` sends repeated steps twice, or loses earlier ones."""
    env = os.environ | {"WANDB_MODE": "online", "WANDB_DIR": str(run)}
    fragments = [str(path) for path in run.glob("wandb/offline-run-*")]
    subprocess.run([sys.executable, "-m", "wandb", "sync", *fragments], env=env, capture_output=True, timeout=120)
    (received,) = server.runs.values()
    assert [row["_step"] for row in received.history] != [row["step"] for row in metrics_lines(run)]


def test_newer_fragments_replace_what_was_sent(run, server):
    """The run is sent while it is stopped and has other steps, and again after its end."""
    for name in ("result.json", "metrics.jsonl"):
        (run / name).rename(run / f"{name}.away")
    newest = find([str(run)])[0][0].fragments[-1].path.parent
    newest.rename(run / "away")
    assert all(not outcome.failed for outcome in sync([str(run)]))
    (received,) = server.runs.values()
    assert received.exit_code != 0 and 0 < len(received.history) <= len(lines_of(run / "metrics.jsonl.away"))
    (run / "away").rename(newest)
    for name in ("result.json", "metrics.jsonl"):
        (run / f"{name}.away").rename(run / name)
    (outcome,) = sync([str(run)])
    assert outcome.sentence.startswith("sent: ")
    assert [row["_step"] for row in received.history] == [row["step"] for row in metrics_lines(run)]
    assert received.exit_code == 0


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("failing", ["upsert", "stream"])
def test_a_failure_is_reported_and_the_next_sync_works(failing, run, server):
    """In contrast, `wandb sync` prints ERROR and exits with code 0."""
    server.failing = failing
    done = script(str(run))
    assert done.returncode == 1 and str(run) in done.stderr and "FAILED" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    server.failing = ""
    assert script(str(run)).returncode == 0
    (received,) = server.runs.values()
    assert len(received.history) == len(metrics_lines(run))


def test_a_missing_key_or_server_is_reported(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    done = script(str(run))
    assert done.returncode == 1 and "wandb login" in done.stderr, done.stderr
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    done = script(str(run), "--timeout", "8")
    assert done.returncode == 1 and "within 8 seconds" in done.stderr and "login node" in done.stderr, done.stderr


def test_a_run_in_progress_is_sent_by_watch_only(tiny, tmp_path, server):
    process = subprocess.Popen(**command(*offline(tiny), "trainer.epochs=400", f"run_dir={tmp_path / 'run'}"))
    wait_for_line(tmp_path / "run" / "metrics.jsonl", process)
    for path in tmp_path.rglob("*.wandb"):
        os.utime(path, (0, 0))  # only the lock shows that it is running
    done = script(str(tmp_path), "--dry-run")
    assert not list(tmp_path.rglob("offline-merged"))
    program = [sys.executable, str(ROOT / "scripts" / "sync_wandb.py"), str(tmp_path), "--watch", "1"]
    watch = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = [watch.stdout.readline(), watch.stdout.readline()]
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=120)
    assert all(line.startswith("sent: ") for line in said) and process.poll() is None, said
    (received,) = server.runs.values()
    steps = [row["_step"] for row in received.history]
    assert steps == [row["step"] for row in metrics_lines(tmp_path / "run")][: len(steps)]
    assert received.exit_code != 0 and "status" not in received.summary
    process.kill()
    process.wait()
    assert done.returncode == 0 and done.stdout.startswith("skipped: "), done.stdout + done.stderr
    assert "--watch sends running runs" in done.stdout
    for path in tmp_path.rglob("*.wandb"):
        os.utime(path)  # as if it had been killed just now
    assert "still running" in next(sync([str(tmp_path)], send=False)).sentence
    for path in tmp_path.rglob("*.wandb"):
        os.utime(path, (0, 0))
    (outcome,) = sync([str(tmp_path)], send=False)
    assert outcome.sentence.startswith(("would be sent: ", "nothing new: ")), outcome


def test_empty_superseded_and_damaged_fragments_are_reported(run):
    newest = find([str(run)])[0][0]
    (run / "wandb" / "offline-run-20200101_000000-nothing").mkdir()
    (run / "wandb" / "offline-run-20200101_000000-nothing" / "run-nothing.wandb").touch()
    (run / "wandb" / "offline-run-20200101_000000-strange").mkdir()
    (run / "wandb" / "offline-run-20200101_000000-strange" / "run-strange.wandb").write_text("hello there")
    sentences = [outcome.sentence for outcome in sync([str(run)], send=False)]
    assert "is not a W&B file" in sentences[0]
    assert f"{newest.run_id} started again from the beginning" in sentences[1]
    assert sentences[2].startswith("would be sent: ") and len(sentences) == 3
    lonely = run.parent / "lonely"
    (run / "wandb" / "offline-run-20200101_000000-nothing").rename(lonely)
    fragment = lonely.parent / "wandb" / "offline-run-20200101_000000-nothing"
    fragment.parent.mkdir()
    lonely.rename(fragment)
    os.utime(fragment / "run-nothing.wandb", (0, 0))
    assert "nothing is recorded" in next(sync([str(fragment)], send=False)).sentence


def test_a_single_file_can_be_sent_and_is_not_moved(run, tmp_path):
    """A file in a run directory stands for all fragments of its run; a moved file is merged next to itself."""
    fragments = [fragment.path for fragment in find([str(run)])[0][0].fragments]
    assert [fragment.path for fragment in find([str(fragments[-1])])[0][0].fragments] == fragments
    for folder in (tmp_path / "moved" / fragments[-1].parent.name, tmp_path / "alone"):
        shutil.copytree(fragments[-1].parent, folder)
        where = folder.parent if folder.name != "alone" else folder
        (outcome,) = sync([str(folder / fragments[-1].name)], send=False)
        assert outcome.sentence.startswith(f"would be sent: {where} ")
        (merged,) = where.rglob("offline-merged/*.wandb")
        assert (merged.parent / "files").exists() == (folder.name != "alone")


def test_watch_prints_each_message_once(run, server):
    program = [sys.executable, str(ROOT / "scripts" / "sync_wandb.py"), str(run), "--watch", "1"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout.readline().startswith("sent: ")
    assert process.stdout.readline().startswith("nothing new: ")
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)
    assert (process.returncode, rest) == (130, "stopped: when run again, this command sends the remaining runs\n")


def test_the_best_validation_is_found_without_a_result_file(tmp_path):
    rows = [
        {"step": s, "epoch": s / 2, "val/acc1": a, "lr": 1} for s, a in ((2, 10.0), (4, 30.0), (6, 30.0), (8, 20.0))
    ]
    run = FoundRun("r", tmp_path, [Fragment(tmp_path / "a", "r")])
    assert outcome(run, [{"step": 1}, *rows]) == {"best/step": 4, "best/epoch": 2.0, "best/val/acc1": 30.0}
    assert outcome(run, [{"step": 1}]) == {}
    for damaged in (b"\xff", b'{"best": [1]}', b"[]"):
        (tmp_path / "result.json").write_bytes(damaged)
        assert outcome(run, rows)["best/step"] == 4
    (tmp_path / "result.json").write_text('{"status": "diverged", "best": {"step": 8, "val/acc1": 31.0}}')
    assert outcome(run, rows) == {"status": "diverged", "best/step": 8, "best/val/acc1": 31.0}


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        find([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match="no W&B run"):
        find([str(tmp_path)])
    done = script(str(tmp_path), "--watch", "0")
    assert done.returncode == 2 and done.stderr.endswith(
        "argument --watch: 0 is invalid: it must be a number of seconds from 1 to 1e9\n"
    )
    done = script(str(tmp_path))
    assert done.returncode == 1 and done.stderr.startswith("error: no W&B run")
