"""A small composition with made-up results."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from ranger21.meta.composition import Composition
from ranger21.meta.plan import CompositionRequest
from ranger21.meta.rivals import rivals_in
from ranger21.tuning.plan import Task
from ranger21.tuning.record import Tuned
from support.project import ROOT

TUNED = ROOT / "results" / "fair_cpu" / "tuned.json"


def asked(data: Path) -> CompositionRequest:
    small = (f"data.root={data}", "data.holdout=10", "data.batch_size=4", "trainer.steps=66")
    return CompositionRequest("fair_resnet", ("thompson", "random"), 2, 8, "outputs", small)


def top1(task: Task) -> float | None:
    """Return a made-up top-1 that depends on the arm and the rung; a tenth of the trials diverge."""
    noise = zlib.crc32(repr((sorted(task.values.items()), task.stage.rung)).encode()) % 1000
    helps = 10 * (task.values["agc"] != "none") + 10 * (task.values["second moment"] != "none")
    return None if noise % 10 == 0 else 40 + 5 * task.stage.rung + helps + noise / 100


def end(task: Task) -> None:
    """Write the result of a trial's run."""
    task.job.directory.mkdir(parents=True, exist_ok=True)
    found = top1(task)
    status = "diverged" if found is None else "finished"
    final = {} if found is None else {"final": {"holdout/acc1": found, "holdout/loss": 1.0}}
    (task.job.directory / "result.json").write_text(json.dumps({"status": status, **final}))


def finish(composition: Composition) -> list[list[Task]]:
    phases = []
    for tasks in composition.phases():
        phases.append(tasks)
        for task in tasks:
            end(task)
    return phases


def rivals() -> list[Tuned]:
    return rivals_in(TUNED, "fair_resnet")
