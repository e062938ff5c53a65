"""The interface of a logger: its settings, which open its tracker."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.tracking import Metrics, Tracker
from ranger21.tracking.jsonl import read_rows


@dataclass(frozen=True)
class RunInfo:
    """The facts about a run that a logger may record.

    Attributes:
        id: identifies the run and is the same after every resume.
        directory: the run directory.
        experiment: the name of the experiment.
        config: the whole configuration, as plain containers.
        best: returns the metrics of the best validation so far; empty before the first one.
        finished: whether the run had finished before this process, which only reports it again.
    """

    id: str
    directory: Path
    experiment: str
    config: dict[str, Any]
    best: Callable[[], Mapping[str, Any]] = field(default=dict, compare=False)
    finished: bool = False

    def rows(self) -> list[Metrics]:
        """Return what earlier processes of the run have logged, up to the checkpoint from which it resumes, if any."""
        path = self.directory / "metrics.jsonl"
        return read_rows(path) if path.exists() else []


@dataclass
class LoggerConfig:
    """The settings of a logger: the keys of its file in `configs/logger/`. This class is `logger=none`.

    A logger subclasses it, adds a field for each of its keys, and overrides both methods.
    """

    name: str

    def members(self) -> list["LoggerConfig"]:
        """Return the loggers that this choice stands for."""
        return [self]

    def require_possible(self, directory: Path, experiment: str) -> None:
        """Raise a UserError for settings that the logger would refuse. Called before the run directory is created."""

    def waiting(self) -> str:
        """Return who waits for the result of this process even if the run is finished, such as a sweep; "" for nobody.

        A finished run is then opened and closed again, and the tracker logs `RunInfo.rows()` itself.
        """
        return ""

    def open(self, run: RunInfo) -> Tracker | None:
        """Start logging, on rank 0 only, and return the tracker that receives the metrics; None logs nothing.

        A run resumed in another process calls this again with the same `run.id`.
        """
        return None


def require_packages(logger: str, *modules: str) -> None:
    """Raise a UserError that says what to install, unless the modules that `logger=LOGGER` needs are installed."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"logger={logger} needs {' and '.join(missing)}, not installed here: type "
            f"pip install 'ranger21-imagenet[{logger}]', or in a clone of the project pip install -e '.[{logger}]'."
        )
