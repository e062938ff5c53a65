"""Weights & Biases: a view of the run, which may fail without the run failing."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranger21.system.errors import UserError
from ranger21.system.masking import masked_command, masked_values
from ranger21.system.wording import reason
from ranger21.tracking import Metrics
from ranger21.tracking.loggers.base import LoggerConfig, RunInfo

log = logging.getLogger("ranger21")
TIMEOUT = 60  # seconds, for requests to the network
MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")  # the values that WANDB_MODE may have


@dataclass
class WandbConfig(LoggerConfig):
    """The settings of `logger=wandb`. None takes the value of W&B's own environment variable, then the default."""

    mode: str | None
    project: str | None
    entity: str | None
    group: str | None
    tags: list[str]
    run_name: str | None

    def __post_init__(self) -> None:
        if self.mode not in (None, "offline", "online"):
            raise UserError(f"logger.mode={self.mode} is invalid: it must be one of offline, online.")

    def require_possible(self, directory: Path, experiment: str) -> None:
        choices(self, directory, experiment)

    def open(self, run: RunInfo) -> "WandbTracker":
        return WandbTracker(self, run)


def choices(config: WandbConfig, directory: Path, experiment: str) -> dict[str, Any]:
    """Return the arguments of `wandb.init`: from `logger`, else from W&B's environment variables, else the defaults.

    Raises a UserError for a mode, a project or a tag that W&B would refuse.
    """

    def chosen(key: str, value: Any, variable: str, default: Any) -> tuple[Any, str]:
        """Return the value, and its source for an error message."""
        if value:
            return value, f"logger.{key}={value}"
        told = os.environ.get(variable)
        return (told, f"{variable}={told}") if told else (default, "")

    mode, where = chosen("mode", config.mode, "WANDB_MODE", "offline")
    if mode not in MODES:
        raise UserError(f"{where} is invalid: it must be online, offline or disabled.")
    project, where = chosen("project", config.project, "WANDB_PROJECT", "ranger21")
    if len(project) > 128 or set(project) & set("/\\#?%:"):
        raise UserError(f"{where} is invalid: a W&B project name has at most 128 characters, and none of / \\ # ? % :")
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
        "name": chosen("run_name", config.run_name, "WANDB_NAME", directory.name)[0],
        "dir": os.environ.get("WANDB_DIR") or str(directory),
    }


class WandbTracker:
    """The W&B run of a run directory, the same after every resume. It is switched off at its first failure."""

    def __init__(self, config: WandbConfig, run: RunInfo) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B reports errors over the network even when offline
        self._run: Any = None
        arguments = choices(config, run.directory, run.experiment)
        try:
            import wandb

            Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
            if os.path.expanduser("~") == "~":  # noqa: PTH111 (it does not raise): W&B needs a home folder
                os.environ["HOME"] = str(Path(arguments["dir"]).resolve())
            settings = wandb.Settings(
                init_timeout=TIMEOUT, finish_timeout=TIMEOUT, console="off", silent=True, x_disable_stats=True
            )
            with _masked_command_line():
                self._run = wandb.init(
                    id=run.id, resume="allow", config=masked_values(run.config), **arguments, settings=settings
                )
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # no failure of W&B may end the training
            self._off(error)

    def _off(self, error: BaseException) -> None:
        self._run = None
        sys.unraisablehook = _except_from_wandb(sys.unraisablehook)
        text = "W&B is switched off for the rest of this run: %s. metrics.jsonl has all metrics."
        log.warning(text, reason(error))

    def progress(self, step: int) -> None:
        pass

    def log(self, metrics: Metrics) -> None:
        if self._run is not None:
            try:
                self._run.log(metrics, step=int(metrics["step"]))
            except Exception as error:
                self._off(error)

    def close(self, exit_code: int, summary: dict[str, Any]) -> None:
        if self._run is not None:
            try:
                for name, value in summary.items():
                    self._run.summary[name] = value
                if exit_code:
                    self._run.mark_preempting()
                self._run.finish(exit_code=exit_code)
            except Exception as error:
                self._off(error)


@contextlib.contextmanager
def _masked_command_line() -> Iterator[None]:
    """Mask what looks like a key in `sys.argv`, which W&B records."""
    arguments = sys.argv
    sys.argv = masked_command(arguments)
    try:
        yield
    finally:
        sys.argv = arguments


def _except_from_wandb(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Silence the traceback that W&B's exit handler prints if its own process is gone, as a warning was logged."""

    def filtered(args: Any) -> None:
        if not str(getattr(args.object, "__module__", "")).startswith("wandb"):
            hook(args)

    return filtered
