"""The engine knows only a logger's interface: a module, a configuration file and one line add a new one."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from support.training import metrics_lines, run_ranks

from ranger21.config.compose import compose_config, with_overrides
from ranger21.records.directory import to_dict
from ranger21.run import experiment
from ranger21.system.errors import UserError
from ranger21.tracking import Metrics
from ranger21.tracking.loggers import LOGGERS
from ranger21.tracking.loggers.base import LoggerConfig, RunInfo
from ranger21.tracking.loggers.guarded import Guarded


class Recorder:
    """A logger that keeps everything it is given."""

    def __init__(self, run: RunInfo, level: int) -> None:
        self.run, self.level = run, level
        self.steps: list[int] = []
        self.rows: list[Metrics] = []
        self.end: tuple[int, dict[str, Any]] | None = None

    def progress(self, step: int) -> None:
        self.steps.append(step)

    def log(self, metrics: Metrics) -> None:
        self.rows.append(metrics)

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        self.end = (exit_code, summary)


OPENED: list[Recorder] = []


@dataclass
class RecorderConfig(LoggerConfig):
    level: int

    def require_possible(self, directory: Path, experiment: str) -> None:
        if self.level < 0:
            raise UserError(f"logger.level={self.level} is below 0.")

    def open(self, run: RunInfo) -> Recorder:
        OPENED.append(Recorder(run, self.level))
        return OPENED[-1]


def test_a_new_logger_needs_only_a_class_and_its_entry_in_the_registry(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGGERS, "recorder", RecorderConfig)
    typed = [*tiny, "trainer.steps=4", "logger.name=recorder"]
    with pytest.raises(UserError, match=r"logger\.level=-1 is below 0"):
        experiment.run(compose_config([*typed, "+logger.level=-1"]), tmp_path / "refused")
    assert not (tmp_path / "refused").exists() and not OPENED
    config = compose_config([*typed, "+logger.level=3"])
    assert experiment.run(config, tmp_path / "run") == 0
    (recorder,) = OPENED
    assert (recorder.level, recorder.steps) == (3, [1, 2, 3, 4])
    assert recorder.run == RunInfo(recorder.run.id, tmp_path / "run", "paper", asdict(config)) and recorder.run.id
    assert [row["step"] for row in recorder.rows] == [row["step"] for row in metrics_lines(tmp_path / "run")] == [2, 4]
    assert recorder.end and recorder.end[0] == 0 and recorder.end[1]["status"] == "finished"


@dataclass
class FailingConfig(LoggerConfig):
    """A logger that fails at one of its calls, and must not be called again."""

    at: str

    def open(self, run: RunInfo) -> FailingConfig:
        self.calls: list[str] = []
        return self._called("open")

    def progress(self, step: int) -> None:
        self._called("progress")

    def log(self, metrics: Metrics) -> None:
        self._called("log")

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        self._called("close")

    def _called(self, name: str) -> FailingConfig:
        assert self.at not in self.calls
        self.calls.append(name)
        if name == self.at:
            raise OSError(f"{name} is broken")
        return self


@pytest.mark.parametrize("at", ["open", "progress", "log", "close"])
def test_a_logger_that_fails_is_switched_off_and_the_run_finishes(
    at: str, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGGERS, "failing", FailingConfig)
    config = compose_config([*tiny, "trainer.steps=2", "logger.name=failing", f"+logger.at={at}"])
    assert experiment.run(config, tmp_path / "run") == 0
    assert [row["step"] for row in metrics_lines(tmp_path / "run")] == [2]
    told = f"logger=failing is switched off for the rest of this run: {at} is broken. metrics.jsonl has all metrics."
    assert (tmp_path / "run" / "log.txt").read_text().count(told) == 1


def shown_by_tensorboard(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the steps and values that TensorBoard shows of a run, by metric."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "tensorboard")).Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def kept_by_mlflow(database: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the steps and values of the only run in MLflow's database, by metric."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    (run,) = client.search_runs([client.get_experiment_by_name("paper").experiment_id])
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: sorted((one.step, one.value) for one in values) for name, values in history.items()}


def logged(directory: Path) -> dict[str, list[tuple[int, Any]]]:
    """Return the steps and values in a run's metrics.jsonl, by metric, as float32 has them."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for row in metrics_lines(directory):
        for name in row.keys() - {"step"}:
            found.setdefault(name, []).append((row["step"], pytest.approx(row[name], rel=1e-6)))
    return found


def test_tensorboard_and_mlflow_show_each_step_of_a_resumed_run_once(tiny: list[str], tmp_path: Path) -> None:
    typed = [
        *(word for word in tiny if word != "logger=none"),
        "trainer.steps=14",
        "logger=[tensorboard,mlflow]",
        f"outputs={tmp_path}",
    ]
    directory = tmp_path / "run"
    assert run_ranks(typed, directory, 1, die_at=11, when="before") == [-9]
    assert [step for step, _ in kept_by_mlflow(tmp_path / "mlflow.db")["train/loss"]] == [2, 4, 5, 6, 8, 10]
    config = compose_config([*typed, "logger=tensorboard"])
    forgotten = Guarded(config.logger, RunInfo("id", directory, "paper", asdict(config)))
    for step in (10, 11, 40):  # what the killed process has written after its checkpoint, which is at step 9
        forgotten.log({"step": step, "train/loss": 99.0})
    forgotten.close(1, {})
    assert (40, 99.0) in shown_by_tensorboard(directory)["train/loss"]
    assert experiment.run(compose_config(typed), directory) == 0
    assert shown_by_tensorboard(directory) == logged(directory)
    assert [step for step, _ in logged(directory)["train/loss"]] == [2, 4, 5, 6, 8, 10, 12, 14]
    assert kept_by_mlflow(tmp_path / "mlflow.db") == logged(directory)
    told = (directory / "log.txt").read_text()
    assert f"tensorboard --logdir {directory / 'tensorboard'}" in told and "mlflow ui --backend-store-uri" in told


def test_a_logger_without_its_package_says_what_to_install(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    config = compose_config([*(word for word in tiny if word != "logger=none"), "logger=tensorboard"])
    with pytest.raises(
        UserError, match=r"needs tensorboard, not installed here: type pip install 'ranger21-imagenet\[t"
    ):
        experiment.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


BOTH = "logger=[wandb,tensorboard]"


def test_a_list_chooses_several_loggers_with_the_settings_of_each() -> None:
    config = compose_config(["data.root=/data", BOTH, "logger.wandb.project=p"])
    assert [(one.name, asdict(one).get("project")) for one in config.logger.members()] == [
        ("wandb", "p"),
        ("tensorboard", None),
    ]
    again = [with_overrides(to_dict(config), words).logger for words in ([], ["logger=none"], ["logger=[tensorboard]"])]
    assert again[0] == config.logger and [one.name for one in again[1:]] == ["none", "tensorboard"]
    last = [compose_config(["data.root=/data", *words]).logger.name for words in ([BOTH, "logger=none"], [BOTH, BOTH])]
    assert last == ["none", "several"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["logger=[]"], r"logger=\[\] is invalid: it must be a list of one or more of wandb, tensorboard, mlflow"),
        (["logger=[wandb,wandb]"], r"logger=\[wandb,wandb\] is invalid: it must .*, each at most once\.$"),
        (
            ["logger=[wandb,tensorbord]"],
            r"logger=\[wandb,tensorbord\] is invalid: it must be a list of one or more of ",
        ),
        (["logger=[wandb,none]"], r"logger=\[wandb,none\] is invalid"),
        (["logger=[[wandb],3]"], r"logger=\[\[wandb\],3\] is invalid"),
        (["+logger=[wandb,tensorboard]"], r"logger is a group"),
        ([BOTH, "logger.wandb.mode=x"], r"^logger\.wandb\.mode=x is invalid: it must be one of offline, online\.$"),
        ([BOTH, "logger.wandb.tags=a"], r"^logger\.wandb\.tags=a is invalid: it must be a list"),
        ([BOTH, "+logger.wandb.mod=x"], r"There is no key logger\.wandb\.mod\. Did you mean logger\.wandb\.mode\?"),
        ([BOTH, "+logger.none=x"], r"There is no key logger\.none\. logger has: wandb, tensorboard, mlflow"),
        ([BOTH, "logger.wandb=3"], r"logger\.wandb is invalid: choose the loggers as a list"),
        ([BOTH, "logger.wandb.project=a/b"], r"^logger\.wandb\.project=a/b is invalid: a W&B project name"),
        (["logger=several"], r"logger=several names no logger: type, for example, 'logger=\[wandb,tensorboard\]'"),
    ],
)
def test_a_wrong_list_of_loggers_is_refused_in_a_sentence(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        compose_config(["data.root=/data", *words]).logger.require_possible(Path("run"), "paper")


def test_mlflow_gets_settings_with_keys_masked_and_what_an_earlier_logger_had_not_sent(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 2, "time": 1.0, "lr": 0.5}\n{"step": 4, "time": 2.0, "lr": null}\n'
    )
    settings = {"outputs": str(tmp_path), "model": {"name": "m", "kwargs": {}}, "token": "hf_" + "a" * 30}
    config = compose_config(["data.root=/data", "logger=mlflow"]).logger
    tracker = config.open(RunInfo("id", tmp_path, "paper", settings))
    tracker.log({"step": 6, "time": 3.0, "lr": 0.25})
    assert "mlflow ui" in tracker.close(0, {"status": "finished"})
    assert kept_by_mlflow(tmp_path / "mlflow.db")["lr"] == [(2, 0.5), (6, 0.25)]
    from mlflow import MlflowClient

    run = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["1"])[0]
    expected = {"outputs": str(tmp_path), "model.name": "m", "model.kwargs": "{}", "token": "***"}
    assert run.data.params == expected and run.data.tags["ranger21.status"] == run.info.status.lower() == "finished"


@pytest.mark.parametrize(("typed", "variable"), [("logger.tracking_uri=mlruns", ""), ("", "file:///runs")])
def test_mlflow_refuses_an_address_that_it_cannot_use(
    typed: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    config = compose_config(["data.root=/data", "logger=mlflow", *([typed] if typed else [])])
    told = typed or f"MLFLOW_TRACKING_URI={variable}"
    with pytest.raises(UserError, match=rf"^{told} is invalid: it must be sqlite:///FILE"):
        config.logger.require_possible(Path("run"), "paper")
