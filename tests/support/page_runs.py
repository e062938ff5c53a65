"""Runs with known curves for the report's page."""

from __future__ import annotations

import json
import math
from pathlib import Path

from ranger21.report.groups.grouping import Group, group_runs
from ranger21.report.page.sections import Tab
from ranger21.report.runs.finding import find_runs

STEPS, LOGGED = 20, 10  # steps and logged lines per epoch


def make_run(
    place: Path, optimizer: str = "adamw", seed: int = 0, *, epochs: int = 4, status: str = "finished",
    logged: int = LOGGED, spike: float | None = None, name: str | None = None, more: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """Write a run whose top-1 after epoch e is 60 + 5 e + seed (10 more with Ranger21); its other curves are smooth."""
    path = place / (name or f"resnet50-{optimizer}-s{seed}")
    path.mkdir(parents=True)
    lr = {"adamw": 1e-3}.get(optimizer, 3e-3)
    config = {"seed": seed, "model": {"name": "resnet50"}, "optimizer": {"name": optimizer, "lr": lr}}
    (path / "config.yaml").write_text(json.dumps(config))
    rows: list[dict[str, float]] = []
    for line in range(1, epochs * logged + 1):
        epoch, wave = line / logged, math.sin(2.3 * line + seed)
        row = {"step": line * STEPS // logged if logged <= STEPS else line, "epoch": epoch, "images_seen": line * 64}
        row |= {"time": epoch * (100.0 + seed), "train/loss": 3 / (1 + epoch) + 0.1 * wave, "lr": lr}
        row |= {"grad_norm": 1 + 0.3 * wave, "perf/images_per_s": 900 + 40 * wave}
        if line % logged == 0:
            top1 = 60 + 5 * epoch + seed + 10 * (optimizer == "ranger21")
            row |= {"val/acc1": top1, "val/loss": 10 / top1}
        rows.append(row | dict.fromkeys(more, 1.234567 + wave))
    if spike:
        rows[-1]["train/loss"] = spike
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if status != "running":
        (path / "result.json").write_text(json.dumps({"status": status, "step": rows[-1]["step"]}))
    return path


def groups_of(place: Path) -> list[Group]:
    return group_runs(find_runs([str(place)]).runs)


def tab_of(place: Path, answer: str = "") -> Tab:
    """Return a tab with the curves of all runs in a folder, and an answer."""
    return Tab("runs", "Runs", groups_of(place), answer)
