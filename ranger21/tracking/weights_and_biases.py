"""Weights & Biases: a view of the run, which may fail without the run failing."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ranger21.config import WandbConfig
from ranger21.tracking import Metrics

log = logging.getLogger("ranger21")
TIMEOUT = 60  # seconds for what needs the network


class WandbTracker:
    """One W&B run for a run directory, however often it is resumed. The first failure switches it off."""

    def __init__(
        self, config: WandbConfig, run_id: str, directory: Path, experiment: str, values: dict[str, Any]
    ) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it telephones even when it is offline
        self._run: Any = None
        try:
            import wandb

            self._run = wandb.init(
                id=run_id,
                resume="allow",
                dir=str(directory),
                mode=config.mode,  # type: ignore[arg-type]
                project=config.project,
                entity=config.entity,
                group=config.group or experiment,
                tags=config.tags or None,
                name=config.run_name or directory.name,
                config=values,
                settings=wandb.Settings(
                    init_timeout=TIMEOUT, finish_timeout=TIMEOUT, console="off", silent=True, x_disable_stats=True
                ),
            )
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # whatever it is, the run is worth more than its picture
            self._off(error)

    def _off(self, error: BaseException) -> None:
        self._run = None
        sys.unraisablehook = _but_not_of_wandb(sys.unraisablehook)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        text = "W&B is switched off for the rest of this run: %s. metrics.jsonl has everything."
        log.warning(text, reason.rstrip("."))

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


def _but_not_of_wandb(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """W&B's exit handler complains, with a traceback, about a process of its own that is gone; that is told already."""

    def filtered(args: Any) -> None:
        if not str(getattr(args.object, "__module__", "")).startswith("wandb"):
            hook(args)

    return filtered
