"""Runs of the paper's two optimizers with known values, for the tests of the claims."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from ranger21.config.compose import compose_config
from ranger21.records.directory import to_dict
from ranger21.report.claims.claims import claim_results
from ranger21.report.groups.comparisons import GroupComparison, compare_like_with_like
from ranger21.report.runs.finding import find_runs

PAPER = ("model=resnet50",)
NO_NORM = ("model=resnet50_nobn",)
SMALL = ("data=fashion_mnist", "model=resnet10t")
EPOCHS = 60
CHANCE = [0.1, 0.12, 0.1]


@cache
def config_yaml(overrides: tuple[str, ...]) -> str:
    """Return the config.yaml of a run with these overrides and seed 0."""
    return OmegaConf.to_yaml(OmegaConf.create(to_dict(compose_config(list(overrides)))))


def write_run(
    path: Path, overrides: Sequence[str], top1: Sequence[float], loss: Sequence[float] = (), classes: int = 1000,
    status: str = "finished", **counts: int,
) -> Path:  # fmt: skip
    """Write a run of the real configuration, with validations spread evenly over 60 epochs."""
    path.mkdir(parents=True)
    chosen = config_yaml(tuple(word for word in overrides if not word.startswith("seed=")))
    (seed,) = [word.removeprefix("seed=") for word in overrides if word.startswith("seed=")] or ["0"]
    (path / "config.yaml").write_text(chosen.replace("\nseed: 0\n", f"\nseed: {seed}\n"))
    data = {"fingerprint": "f", "classes": classes, "train_images": 1_281_167, "val_images": 50_000, **counts}
    (path / "manifest.json").write_text(json.dumps({"data": data}))
    rows: list[dict[str, Any]] = []
    for index, value in enumerate(top1, start=1):
        rows.append({"step": index * 10, "epoch": EPOCHS * index / len(top1), "val/acc1": value})
        if loss:
            rows[-1]["val/loss_smoothed"] = loss[index - 1]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if status != "running":
        (path / "result.json").write_text(json.dumps({"status": status}))
    return path


def write_both(path: Path, recipe: Sequence[str], ranger21: Any, adamw: Any, seeds: int = 3, **more: Any) -> None:
    """Write runs of both optimizers: `ranger21(seed)` and `adamw(seed)` return (accuracies, losses)."""
    for name, values in (("ranger21", ranger21), ("adamw", adamw)):
        for seed in range(seeds):
            overrides = [*recipe, f"optimizer={name}", f"seed={seed}"]
            write_run(path / f"{name}{seed}", overrides, *values(seed), **more)


def only_comparison(path: Path) -> GroupComparison:
    (comparison,) = compare_like_with_like(find_runs([str(path)]).runs)
    return comparison


def statuses(path: Path) -> dict[str, str]:
    return {finding.claim: finding.status for finding in claim_results(only_comparison(path))}


def our_values(path: Path) -> dict[str, str]:
    """Return the page's value for each claim."""
    return {finding.claim: finding.ours for finding in claim_results(only_comparison(path))}


def rising_run(top1: float, loss: float = 1.0) -> Any:
    """Return a function of the seed whose top-1 rises to `top1`, while the loss falls to `loss` at epoch 60."""
    epochs = np.arange(1, EPOCHS + 1)

    def curve(seed: int) -> tuple[list[float], list[float]]:
        best = top1 + 0.1 * seed
        return [best * (1 - np.exp(-epoch / 10)) + best * np.exp(-6) * (epoch == 60) for epoch in epochs], [
            loss * (60 / epoch) ** 0.5 + 0.001 * seed for epoch in epochs
        ]

    return curve
