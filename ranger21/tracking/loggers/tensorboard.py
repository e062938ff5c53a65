"""`logger=tensorboard`: the run's metrics as TensorBoard's event files."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.system.masking import masked_values
from ranger21.tracking import Metrics
from ranger21.tracking.loggers.base import LoggerConfig, RunInfo, require_packages

FOLDER = "tensorboard"  # in the run directory


@dataclass
class TensorBoardConfig(LoggerConfig):
    """The settings of `logger=tensorboard`: it has none."""

    def require_possible(self, directory: Path, experiment: str) -> None:
        require_packages(self.name, "tensorboard")

    def open(self, run: RunInfo) -> "TensorBoardTracker":
        return TensorBoardTracker(run)


class TensorBoardTracker:
    """Writes event files to RUN/tensorboard.

    A resumed run tells TensorBoard to forget the earlier events, and writes all rows of metrics.jsonl again.
    TensorBoard then shows each step once, also those that an earlier process logged after its last checkpoint.
    """

    def __init__(self, run: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, rows = run.directory / FOLDER, run.rows()
        self._began = time.time() - (rows[-1].get("time", 0.0) if rows else 0.0)
        self._writer = SummaryWriter(str(self._folder), purge_step=0, flush_secs=30)
        config = json.dumps(masked_values(run.config), indent=2, default=str)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in config.splitlines()))
        for row in rows:
            self.log(row)

    def progress(self, step: int) -> None:
        pass

    def log(self, metrics: Metrics) -> None:
        """Write each metric as a scalar; TensorBoard's relative time is the time of training, without interruptions."""
        at = self._began + metrics["time"] if "time" in metrics else None
        for name, value in metrics.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(metrics["step"]), walltime=at)

    def close(self, exit_code: int, summary: dict[str, Any]) -> str:
        self._writer.close()
        return f"To see this run in TensorBoard, type: tensorboard --logdir {self._folder}"
