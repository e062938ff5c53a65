"""W&B's server lost at the start, in the middle and at the end of a run: the run can always be sent afterwards."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ranger21.faults.wandb_server import Server
from ranger21.tracking import Tracker
from ranger21.tracking.loggers.base import RunInfo
from ranger21.tracking.loggers.weights_and_biases import WandbConfig
from ranger21.wandb_tools.sync import sync

wandb = pytest.importorskip("wandb", reason="pip install wandb")
STEPS = [2, 4, 6, 8]
COMMAND = "To send the whole run, type{}: python scripts/sync_wandb.py {}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Path]:
    """The directory of a run, with W&B logged in."""
    caplog.set_level(logging.INFO, "ranger21")
    monkeypatch.setattr(logging.getLogger("ranger21"), "propagate", True)
    for name, value in {"API_KEY": "0" * 40, "MODE": "online", "JOB_TYPE": "j"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "config.yaml").write_text("seed: 7\n")
    (directory / "manifest.json").write_text('{"sessions": [{"started": "2026-11-29T01:00:00+00:00"}]}')
    yield directory
    wandb.teardown()  # or the runs that later tests start would share this process's W&B service


def begin(directory: Path, best: Callable[[], dict[str, float]] = dict, options: bool = False) -> Tracker:
    config = WandbConfig(
        "wandb",
        mode=None,
        project="p",
        entity=None,
        group=None,
        tags=["a"],
        run_name="name",
        notes="n",
        job_type="",
        system_metrics=options,
        alert=options,
    )
    return config.open(RunInfo("abc", directory, "e", {"seed": 7}, best))


def log(tracker: Tracker, directory: Path, steps: list[int]) -> None:
    """Log steps as a run does."""
    for step in steps:
        row = {"step": step, "epoch": step / 2, "time": float(step), "val/acc1": float(step)}
        tracker.log(row)
        with open(directory / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")


def finish(tracker: Tracker, directory: Path) -> str:
    """End the run, and return what the tracker says last."""
    best = {"step": 8, "val/acc1": 8.0}
    told = tracker.close(0, {"status": "finished"} | {f"best/{name}": value for name, value in best.items()})
    (directory / "result.json").write_text(json.dumps({"status": "finished", "best": best}))
    wandb.teardown()
    return told or ""


def require_sent(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that sync sends the whole run to a new server, and that a second sync sends nothing."""
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        (outcome,) = sync([str(directory)])
        assert outcome.sentence.startswith("sent: "), outcome
        ((run_id, received),) = server.runs.items()
        assert (run_id, [row["_step"] for row in received.history]) == ("abc", STEPS)
        assert (received.summary["best/step"], received.summary["status"], received.exit_code) == (8, "finished", 0)
        assert (received.fields["displayName"], received.fields["groupName"]) == ("name", "e")
        assert (received.fields["notes"], received.fields.get("jobType")) == ("n", None)
        assert received.fields["tags"] == ["a"] and json.loads(received.fields["config"])["seed"]["value"] == 7
        assert next(sync([str(directory)])).sentence.startswith("nothing new: ")


@pytest.mark.parametrize("why", ["nobody is there", "no login", "it refuses the run"])
def test_a_run_that_cannot_begin_online_is_recorded_offline(why, place, monkeypatch, caplog):
    """One sentence says so at the start, another at the end what has not been sent."""
    with Server() as server:
        server.failing = "upsert" if why == "it refuses the run" else ""
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9" if why == "nobody is there" else server.url)
        if why == "nobody is there":
            monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
        if why == "no login":
            monkeypatch.delenv("WANDB_API_KEY")
        tracker = begin(place)
        log(tracker, place, STEPS)
        told = finish(tracker, place)
        assert not server.runs
    own = [record for record in caplog.records if record.name == "ranger21"]
    (warning,) = [record.getMessage() for record in own if record.levelno >= logging.WARNING]
    assert warning.startswith("W&B cannot be used online (") and "is recorded offline" in warning
    assert told.startswith("W&B has received nothing from this process, which recorded offline. ")
    assert told.endswith(COMMAND.format(" on a machine with internet access", place))
    assert len(list(place.glob("wandb/offline-run-*/*.wandb"))) == 1
    require_sent(place, monkeypatch)


@pytest.mark.parametrize("how", ["it is gone", "it refuses rows", "it is gone, and the run's files with it"])
def test_a_run_whose_server_is_lost_in_the_middle_says_what_to_type(how, place, monkeypatch):
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "1")
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        tracker = begin(place)
        log(tracker, place, STEPS[:2])
        server.failing = "stream" if how == "it refuses rows" else "all"
        log(tracker, place, STEPS[2:])
        told = finish(tracker, place)
    assert told.startswith("W&B may lack the end of this run (") and told.endswith(COMMAND.format("", place)), told
    if how.endswith("with it"):  # as after SIGKILL before W&B first wrote
        for path in place.glob("wandb/run-*"):
            shutil.rmtree(path)
    require_sent(place, monkeypatch)


def test_a_run_that_was_received_is_not_sent_again(place, monkeypatch, caplog):
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        tracker = begin(place)
        log(tracker, place, STEPS)
        assert "sends its metrics itself" in next(sync([str(place)], running=True)).sentence
        url = f"{server.url}/me/p/runs/abc"
        assert finish(tracker, place) == f"W&B has received this run up to step 8: {url}"
        assert f"W&B shows this run at {url}" in caplog.messages
        lines = server.runs["abc"].lines
        assert next(sync([str(place)])).sentence.startswith("nothing new: ") and server.runs["abc"].lines == lines


@pytest.mark.parametrize("options", [False, True])
def test_the_best_validation_is_seen_during_a_run_and_options_add_system_metrics_and_an_alert(
    options, place, monkeypatch
):
    best: dict[str, float] = {}
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        tracker = begin(place, lambda: best, options)
        log(tracker, place, STEPS[:1])
        best = {"step": 2, "val/acc1": 2.0}
        log(tracker, place, STEPS[1:])
        assert (wandb.run.summary["best/step"], wandb.run.summary["best/val/acc1"]) == (2, 2.0)
        assert wandb.run.settings.x_disable_stats != options
        tracker.close(0, {"status": "diverged"})
        assert server.runs["abc"].alerts == ([f"{place} diverged at step 8."] if options else [])
        assert server.runs["abc"].summary["best/step"] == 2
