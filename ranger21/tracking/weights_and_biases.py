"""Weights & Biases: a view of the run, which may fail without the run failing."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ranger21.config import WandbConfig
from ranger21.system.errors import UserError
from ranger21.system.masking import masked_command, masked_values
from ranger21.system.wording import reason
from ranger21.tracking import Metrics

log = logging.getLogger("ranger21")
TIMEOUT = 60  # seconds for what needs the network


MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")  # as WANDB_MODE may have them


def choices(config: WandbConfig, directory: Path, experiment: str) -> dict[str, Any]:
    """Return W&B's arguments for a run: what `logger` says, else what W&B's own variables say, else the run's defaults.

    Raises a UserError for a mode, a project or a tag that W&B would refuse.
    """

    def chosen(key: str, value: Any, variable: str, default: Any) -> tuple[Any, str]:
        """A value, and where it is from."""
        if value:
            return value, f"logger.{key}={value}"
        told = os.environ.get(variable)
        return (told, f"{variable}={told}") if told else (default, "")

    mode, where = chosen("mode", config.mode, "WANDB_MODE", "offline")
    if mode not in MODES:
        raise UserError(f"{where} is not possible: it must be online, offline or disabled.")
    project, where = chosen("project", config.project, "WANDB_PROJECT", "ranger21")
    if len(project) > 128 or set(project) & set("/\\#?%:"):
        raise UserError(
            f"{where} is not possible: W&B's projects have at most 128 characters, and none of / \\ # ? % :"
        )
    tags, where = chosen("tags", config.tags, "WANDB_TAGS", None)
    tags = tags.split(",") if isinstance(tags, str) else tags
    if not all(1 <= len(tag) <= 64 for tag in tags or []):
        raise UserError(f"{where} is not possible: each of W&B's tags has 1 to 64 characters.")
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
    """One W&B run for a run directory, however often it is resumed. The first failure switches it off."""

    def __init__(
        self, config: WandbConfig, run_id: str, directory: Path, experiment: str, values: dict[str, Any]
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it telephones even when it is offline
        self._run: Any = None
        arguments = choices(config, directory, experiment)
        try:
            import wandb

            Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
            if os.path.expanduser("~") == "~":  # noqa: PTH111 (it does not raise): W&B does not do without a home
                os.environ["HOME"] = str(Path(arguments["dir"]).resolve())
            settings = wandb.Settings(
                init_timeout=TIMEOUT, finish_timeout=TIMEOUT, console="off", silent=True, x_disable_stats=True
            )
            with _masked_command_line():
                self._run = wandb.init(
                    id=run_id, resume="allow", config=masked_values(values), **arguments, settings=settings
                )
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # whatever it is, the run is worth more than its picture
            self._off(error)

    def _off(self, error: BaseException) -> None:
        self._run = None
        sys.unraisablehook = _but_not_of_wandb(sys.unraisablehook)
        text = "W&B is switched off for the rest of this run: %s. metrics.jsonl has everything."
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
    """W&B records the process's arguments: it sees them with what looks like a key masked."""
    arguments = sys.argv
    sys.argv = masked_command(arguments)
    try:
        yield
    finally:
        sys.argv = arguments


def _but_not_of_wandb(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """W&B's exit handler complains, with a traceback, about a process of its own that is gone; that is told already."""

    def filtered(args: Any) -> None:
        if not str(getattr(args.object, "__module__", "")).startswith("wandb"):
            hook(args)

    return filtered
