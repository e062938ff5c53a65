"""The settings of `logger=wandb`, Weights & Biases: a view of the run, which may fail without the run failing."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.tracking.loggers.base import LoggerConfig, RunInfo
from ranger21.tracking.loggers.wandb_tracker import WandbTracker

MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")  # the values that WANDB_MODE may have


@dataclass
class WandbConfig(LoggerConfig):
    """The settings of `logger=wandb`.

    None takes the value of W&B's own environment variable, then the default. An empty text or list is a value.
    """

    mode: str | None
    project: str | None
    entity: str | None
    group: str | None
    tags: list[str] | None
    run_name: str | None
    notes: str | None = None
    job_type: str | None = None
    system_metrics: bool = False
    alert: bool = False

    def __post_init__(self) -> None:
        if self.mode not in (None, "offline", "online"):
            raise UserError(f"logger.mode={self.mode} is invalid: it must be one of offline, online.")

    def require_possible(self, directory: Path, experiment: str) -> None:
        choices(self, directory, experiment)

    def waiting(self) -> str:
        sweep, mode = os.environ.get("WANDB_SWEEP_ID"), self.mode or os.environ.get("WANDB_MODE")
        return f"the W&B sweep {sweep}" if sweep and mode != "disabled" else ""

    def open(self, run: RunInfo) -> WandbTracker:
        arguments = choices(self, run.directory, run.experiment)
        if run.finished:  # its directory stays as it is
            arguments["dir"] = os.environ.get("WANDB_DIR") or str(Path.cwd())
        return WandbTracker(arguments, run, self.system_metrics, self.alert)


def choices(config: WandbConfig, directory: Path, experiment: str) -> dict[str, Any]:
    """Return the arguments of `wandb.init`: from `logger`, else from W&B's environment variables, else the defaults.

    Raises a UserError for a mode, a project or a tag that W&B would refuse.
    """

    def chosen(key: str, value: Any, variable: str, default: Any) -> tuple[Any, str]:
        """Return the value, and its source for an error message."""
        if value is not None:
            return value, f"logger.{key}={value}"
        told = os.environ.get(variable)
        return (told, f"{variable}={told}") if told else (default, "")

    mode, where = chosen("mode", config.mode, "WANDB_MODE", "offline")
    if mode not in MODES:
        raise UserError(f"{where} is invalid: it must be online, offline or disabled.")
    project, where = chosen("project", config.project, "WANDB_PROJECT", "ranger21")
    if not 1 <= len(project) <= 128 or set(project) & set("/\\#?%:"):
        raise UserError(f"{where} is invalid: a W&B project name has 1 to 128 characters, and none of / \\ # ? % :")
    tags, where = chosen("tags", config.tags, "WANDB_TAGS", None)
    tags = tags.split(",") if isinstance(tags, str) else tags
    if not all(1 <= len(tag) <= 64 for tag in tags or []):
        raise UserError(f"{where} is invalid: each W&B tag must have 1 to 64 characters.")
    return {
        "mode": mode,
        "project": project,
        "tags": tags,
        "entity": chosen("entity", config.entity, "WANDB_ENTITY", None)[0],
        "group": chosen("group", config.group, "WANDB_RUN_GROUP", experiment)[0],
        "notes": chosen("notes", config.notes, "WANDB_NOTES", None)[0],
        "job_type": chosen("job_type", config.job_type, "WANDB_JOB_TYPE", None)[0],
        "name": chosen("run_name", config.run_name, "WANDB_NAME", directory.name)[0],
        "dir": os.environ.get("WANDB_DIR") or str(directory),
    }
