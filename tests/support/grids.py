"""Arguments for small grids of runs, and a run that was killed while it was logging."""

from __future__ import annotations

import json
from pathlib import Path

from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun

QUICK = ["logger=none", "trainer.steps=4", "trainer.log_every_steps=1", "trainer.checkpoint_every_steps=2"]
FOUR_RUNS = ["--preset", "paper", "--only", "model=resnet50", "--seeds", "2"]


def make_job(path: Path, **rows: object) -> PlannedRun:
    """Return a planned run whose directory has one logged line and a part of a second one."""
    config = compose_config(["experiment=demo"])
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text(json.dumps({"step": 3, "epoch": 1.5, "time": 30.0, **rows}) + "\n{cut")
    return PlannedRun(("experiment=demo",), config, path)
