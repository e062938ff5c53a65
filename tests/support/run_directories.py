"""Run directories with known values, for the tests of comparisons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "ranger21": {"lr": 3e-3, "lookahead_k": 5, "stable_decay": "layer"},
    "adamw": {"lr": 1e-3, "betas": [0.9, 0.999]},
    "nesterov": {"lr": 0.1, "momentum": 0.9},
}
STEPS_PER_EPOCH = 10

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make run directories; `top1` is the validation top-1 after each epoch."""

    def make_run(
        optimizer: str = "adamw", seed: int = 0, top1: tuple[float, ...] = (50.0, 60.0), status: str = "finished",
        tail: str = "", name: str | None = None, **settings: Any,
    ) -> Path:  # fmt: skip
        path = tmp_path / "outputs" / "test" / (name or f"resnet50-{optimizer}-s{seed}")
        path.mkdir(parents=True)
        config = OmegaConf.create(config_of(optimizer, seed, len(top1), path))
        for key, value in settings.items():
            OmegaConf.update(config, key.replace("__", "."), value)
        OmegaConf.save(config, path / "config.yaml")
        (path / "metrics.jsonl").write_text("".join(logged_lines(top1)) + tail)
        if status != "running":
            (path / "result.json").write_text(json.dumps({"status": status, "step": len(top1) * STEPS_PER_EPOCH}))
        return path

    return make_run


def config_of(optimizer: str, seed: int, epochs: int, path: Path) -> dict[str, Any]:
    """Return a run's configuration. Settings that cannot change a result differ between seeds."""
    return {
        "experiment": "test",
        "seed": seed,
        "run_dir": str(path),
        "model": {"name": "resnet50"},
        "optimizer": {"name": optimizer, **OPTIMIZERS[optimizer]},
        "schedule": {"name": "constant"},
        "data": {
            "name": "photos",
            "root": f"/data/{seed}",
            "workers": seed,
            "batch_size": 64,
        },  # not a registered dataset, so the number of classes is unknown
        "trainer": {"epochs": epochs, "device": f"cuda:{seed}"},
        "logger": {"run_name": path.name},
    }


def logged_lines(top1: tuple[float, ...]) -> list[str]:
    """Return the lines of metrics.jsonl: training metrics every 5 steps, validation metrics every epoch."""
    rows: list[dict[str, float]] = []
    for step in range(5, len(top1) * STEPS_PER_EPOCH + 1, 5):
        where = {"step": step, "epoch": step / STEPS_PER_EPOCH, "time": 60.0 * step}
        rows.append({**where, "train/loss": 100 / step, "perf/images_per_s": 500.0 + (step == 5) * 1000})
        if step % STEPS_PER_EPOCH == 0:
            value = top1[step // STEPS_PER_EPOCH - 1]
            rows.append(
                {
                    **where,
                    "val/loss": 10 - value / 10,
                    "val/loss_smoothed": 11 - value / 10,
                    "val/acc1": value,
                    "val/acc5": 99.0,
                }
            )
    return [json.dumps(row) + "\n" for row in rows]
