"""W&B's server lost before, during and at the end of a run: the run can always be sent afterwards."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.training import metrics_lines

from ranger21.config.compose import compose_config
from ranger21.engine import loop
from ranger21.faults.wandb_server import Server
from ranger21.run import experiment
from ranger21.tracking import Tracker
from ranger21.tracking.loggers.base import RunInfo
from ranger21.tracking.loggers.weights_and_biases import WandbConfig
from ranger21.wandb_tools.sync import sync

wandb = pytest.importorskip("wandb", reason="pip install wandb")
STEPS = [2, 4, 6, 8]
COMMAND = "To send the whole run, type{}: python scripts/sync_wandb.py {}"
OFFLINE = "W&B has received nothing from this process, which recorded offline. "
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Path]:
    """The directory of a run, with W&B logged in."""
    caplog.set_level(logging.INFO, "ranger21")
    monkeypatch.setattr(logging.getLogger("ranger21"), "propagate", True)
    known = {"API_KEY": "0" * 40, "MODE": "online", "JOB_TYPE": "j", "INIT_TIMEOUT": "3", "FINISH_TIMEOUT": "1"}
    for name, value in known.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path / "run"
    wandb.teardown()  # or the runs that later tests start would share this process's W&B service


@pytest.mark.parametrize("moment", ["before the run", "in the middle", "at the end"])
def test_a_run_whose_server_is_lost_trains_on_and_is_sent_later(moment, place, tiny, monkeypatch):
    """At the end, the run's W&B files are lost, too, as after SIGKILL before W&B first wrote."""
    real, lost_at = loop.take_step, {"in the middle": 3, "at the end": 4}.get(moment)
    server = Server()

    def losing(setup, state, number, clock):
        if number == lost_at:
            server.failing = "all"
        return real(setup, state, number, clock)

    monkeypatch.setattr(loop, "take_step", losing)
    monkeypatch.setenv("WANDB_BASE_URL", server.url if lost_at else NOBODY)
    if not lost_at:
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    typed = [word for word in tiny if word != "logger=none"] + ["logger=wandb", "logger.tags=[a]", "trainer.steps=4"]
    typed += ["logger.run_name=name", "logger.notes=n", "logger.job_type=''"]
    with server:
        assert experiment.run(compose_config(typed), place) == 0
        wandb.teardown()
    told = (place / "log.txt").read_text().splitlines()
    if lost_at:
        assert "W&B may lack the end of this run (" in told[-1] and told[-1].endswith(COMMAND.format("", place)), told
    else:
        assert OFFLINE in told[-1] and told[-1].endswith(COMMAND.format(" on a machine with internet access", place))
    steps = [row["step"] for row in metrics_lines(place)]
    assert steps == [2, 4]
    if moment == "at the end":
        assert "2 rows up to step 4, of 1 fragment" in next(sync([str(place)], send=False)).sentence
        for path in place.glob("wandb/run-*"):
            shutil.rmtree(path)
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        (outcome,) = sync([str(place)])
        assert outcome.sentence.startswith("sent: "), outcome
        ((_, received),) = server.runs.items()
        assert [row["_step"] for row in received.history] == steps
        assert (received.summary["best/step"], received.summary["status"], received.exit_code) == (4, "finished", 0)
        assert (received.fields["displayName"], received.fields["groupName"]) == ("name", "paper")
        assert (received.fields["notes"], received.fields.get("jobType")) == ("n", None)
        assert received.fields["tags"] == ["a"] and json.loads(received.fields["config"])["seed"]["value"] == 0
        assert next(sync([str(place)])).sentence.startswith("nothing new: ")


def begin(directory: Path, best: Callable[[], dict[str, float]] = dict, options: bool = False) -> Tracker:
    directory.mkdir(exist_ok=True)
    (directory / "config.yaml").write_text("seed: 7\n")
    config = WandbConfig(
        "wandb", None, "p", None, None, None, None, job_type="", system_metrics=options, alert=options
    )  # fmt: skip
    return config.open(RunInfo("abc", directory, "e", {"seed": 7}, best))


def log(tracker: Tracker, directory: Path, steps: list[int]) -> None:
    """Log steps as a run does."""
    for step in steps:
        row = {"step": step, "epoch": step / 2, "time": float(step), "val/acc1": float(step)}
        tracker.log(row)
        with open(directory / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")


def finish(tracker: Tracker, directory: Path, status: str = "finished") -> str:
    """End the run, and return what the tracker says last."""
    told = tracker.close(0, {"status": status})
    (directory / "result.json").write_text(json.dumps({"status": status}))
    wandb.teardown()
    return told or ""


@pytest.mark.parametrize("why", ["no login", "it refuses the run", "it refuses rows"])
def test_a_server_that_refuses_something_is_as_good_as_lost(why, place, monkeypatch, caplog):
    """If it refuses the run, one sentence says so at the start, another at the end what has not been sent."""
    with Server() as server:
        server.failing = {"it refuses the run": "upsert", "it refuses rows": "stream"}.get(why, "")
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        if why == "no login":
            monkeypatch.delenv("WANDB_API_KEY")
        tracker = begin(place)
        log(tracker, place, STEPS)
        told = finish(tracker, place)
        assert not any(run.history for run in server.runs.values())
    own = [record for record in caplog.records if record.name == "ranger21"]
    warnings = [record.getMessage() for record in own if record.levelno >= logging.WARNING]
    if why == "it refuses rows":
        assert told.startswith("W&B may lack the end of this run (") and told.endswith(COMMAND.format("", place))
        assert not warnings and len(list(place.glob("wandb/run-*/*.wandb"))) == 1
    else:
        (warning,) = warnings
        assert warning.startswith("W&B cannot be used online (") and "is recorded offline" in warning
        assert told == OFFLINE + COMMAND.format(" on a machine with internet access", place)
        assert len(list(place.glob("wandb/offline-run-*/*.wandb"))) == 1
    (outcome,) = sync([str(place)], send=False)
    assert outcome.sentence.startswith("would be sent: ") and "4 rows up to step 8" in outcome.sentence


@pytest.mark.parametrize("options", [False, True])
def test_a_run_that_was_received_is_not_sent_again(options, place, monkeypatch, caplog):
    """Its best validation is seen during the run, and options add system metrics and an alert."""
    best: dict[str, float] = {}
    with Server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        url = f"{server.url}/me/p/runs/abc"
        if options:  # a process that is stopped before its first row
            assert begin(place).close(143, {}) == f"W&B has received no step of this run yet: {url}"
            wandb.teardown()
        tracker = begin(place, lambda: best, options)
        log(tracker, place, STEPS[:1])
        best = {"step": 2, "val/acc1": 2.0}
        log(tracker, place, STEPS[1:])
        assert (wandb.run.summary["best/step"], wandb.run.summary["best/val/acc1"]) == (2, 2.0)
        assert wandb.run.settings.x_disable_stats != options
        assert "sends its metrics itself" in next(sync([str(place)], running=True)).sentence
        assert finish(tracker, place, "diverged") == f"W&B has received this run up to step 8: {url}"
        assert f"W&B shows this run at {url}" in caplog.messages
        received = server.runs["abc"]
        assert received.alerts == ([f"{place} diverged at step 8."] if options else [])
        assert [row["_step"] for row in received.history] == STEPS and received.summary["best/step"] == 2
        assert next(sync([str(place)])).sentence.startswith("nothing new: ") and received.lines == len(STEPS)
