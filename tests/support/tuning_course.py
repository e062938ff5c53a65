"""A small tuning with made-up results."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ranger21.config.compose import Composer, compose_config
from ranger21.tuning import plan
from ranger21.tuning.plan import Task, TuningRequest

SMALL = ("data.holdout=100", "trainer.steps=8")


@contextlib.contextmanager
def composing_once() -> Iterator[None]:
    """Compose each configuration only once."""
    with pytest.MonkeyPatch.context() as patch:
        kept, composer = functools.cache(lambda words: compose_config(list(words))), Composer()
        patch.setattr(plan, "compose_config", lambda words: kept(tuple(words)))
        patch.setattr(plan, "Composer", lambda: composer)
        yield


def request(named: str = "adamw,nesterov", **changes: object) -> TuningRequest:
    asked = TuningRequest(("fashion_mnist",), tuple(named.split(",")), 4, 1, False, 0, "outputs", SMALL)
    return replace(asked, **changes)  # type: ignore[arg-type]


def end(task: Task, top1: float | None, loss: float | None = 1.0) -> None:
    """Write the result of a trial's run; `None` means that it diverged."""
    task.job.directory.mkdir(parents=True, exist_ok=True)
    status = "diverged" if top1 is None else "finished"
    final = {} if top1 is None else {"final": {"holdout/acc1": top1, "holdout/loss": loss}}
    (task.job.directory / "result.json").write_text(json.dumps({"status": status, **final}))
