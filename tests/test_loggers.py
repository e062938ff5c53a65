"""The engine knows only a logger's interface: a module, a configuration file and one line add a new one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from support.training import metrics_lines

from ranger21.config.compose import compose_config
from ranger21.run import experiment
from ranger21.system.errors import UserError
from ranger21.tracking import Metrics
from ranger21.tracking.loggers import LOGGERS
from ranger21.tracking.loggers.base import LoggerConfig, RunInfo


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
