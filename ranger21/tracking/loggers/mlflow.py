"""`logger=mlflow`: the run's metrics in MLflow, in a local database or on a server."""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.masking import masked, masked_values
from ranger21.tracking import Metrics
from ranger21.tracking.loggers.base import LoggerConfig, RunInfo, require_packages

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https", "databricks")
TAG = "ranger21.run"  # holds RunInfo.id, by which a resumed run is found
# A server that does not answer delays a log line for about this long, and not for MLflow's own several minutes.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
BATCH, PARAMS, LONGEST = 1000, 100, 6000  # MLflow's limits: metrics and parameters of a request, characters of a value


@dataclass
class MLflowConfig(LoggerConfig):
    """The settings of `logger=mlflow`. None takes the value of MLflow's own environment variable, then the default."""

    tracking_uri: str | None
    experiment: str | None
    run_name: str | None

    def require_possible(self, directory: Path, experiment: str) -> None:
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:"
        where = "logger.tracking_uri" if self.tracking_uri else "MLFLOW_TRACKING_URI"
        kind = uri.partition(":")[0].partition("+")[0]
        if kind not in (*DATABASES, *SERVERS):
            raise UserError(
                f"{where}={masked(uri)} is invalid: it must be sqlite:///FILE, http://HOST:PORT, or the address of"
                " another database or server. MLflow no longer keeps runs in a folder."
            )
        require_packages(self.name, "mlflow", *(("sqlalchemy", "alembic") if kind in DATABASES else ()))

    def open(self, run: RunInfo) -> "MLflowTracker":
        return MLflowTracker(self, run)


class MLflowTracker:
    """Logs to one MLflow run, the same after every resume.

    MLflow keeps every value that it receives, so a step that an earlier process has already logged is not logged again.
    Rows of metrics.jsonl that MLflow lacks are logged at the start.
    """

    def __init__(self, config: MLflowConfig, run: RunInfo) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or database(run)
        self._client, self._uri, rows = MlflowClient(tracking_uri=uri), uri, run.rows()
        self._began = time.time() - (rows[-1].get("time", 0.0) if rows else 0.0)
        experiment = config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.experiment
        self._id = self._run_of(run, self._experiment(experiment), config.run_name or run.directory.name)
        self._last = self._last_steps()
        self._send([metric for row in rows for metric in self._new(row)])

    def _experiment(self, name: str) -> str:
        """Return the id of the experiment of this name, which is created if there is none."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:  # another run has just created it
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def _run_of(self, run: RunInfo, experiment: str, name: str) -> str:
        """Return the id of the MLflow run: that of earlier processes of this run, or a new one with its settings."""
        from mlflow.entities import Param

        found = self._client.search_runs([experiment], f"tags.`{TAG}` = '{run.id}'")
        if found:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        new = self._client.create_run(experiment, tags={TAG: run.id}, run_name=name).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in flat(masked_values(run.config))]
        for some in parts(params, PARAMS):
            self._client.log_batch(new, params=some)
        return new

    def _last_steps(self) -> dict[str, int]:
        """Return the last step that MLflow has of each metric."""
        names = self._client.get_run(self._id).data.metrics
        return {name: max(one.step for one in self._client.get_metric_history(self._id, name)) for name in names}

    def _new(self, row: Metrics) -> list[Any]:
        """Return the values of a row that MLflow lacks."""
        from mlflow.entities import Metric

        at, step = round(1000 * (self._began + row["time"] if "time" in row else time.time())), int(row["step"])
        names = [name for name in row if name != "step" and step > self._last.get(name, -1)]
        self._last |= dict.fromkeys(names, step)
        return [Metric(name, row[name], at, step) for name in names]

    def _send(self, metrics: Sequence[Any]) -> None:
        for some in parts(metrics, BATCH):
            self._client.log_batch(self._id, metrics=some)

    def progress(self, step: int) -> None:
        pass

    def log(self, metrics: Metrics) -> None:
        self._send(self._new(metrics))

    def close(self, exit_code: int, summary: dict[str, Any]) -> str:
        for name, value in summary.items():
            self._client.set_tag(self._id, f"ranger21.{name}", str(value))
        self._client.set_terminated(self._id, "KILLED" if exit_code > 128 else "FAILED" if exit_code else "FINISHED")
        if self._uri.startswith(SERVERS):
            return f"MLflow has received this run: run {self._id} at {masked(self._uri)}"
        return f"To see this run in MLflow, type: mlflow ui --backend-store-uri {masked(self._uri)}"


def database(run: RunInfo) -> str:
    """Return the address of the default database, OUTPUTS/mlflow.db."""
    outputs = Path(run.config["outputs"]).resolve()
    outputs.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{outputs / 'mlflow.db'}"


def flat(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the values of nested dicts with their dotted keys."""
    if isinstance(value, dict) and (value or not key):
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


def parts(values: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Yield the values in lists of at most `size`."""
    return (values[start : start + size] for start in range(0, len(values), size))
