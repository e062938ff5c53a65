"""experiment=strong: its values are the source's, each has an effect, and a tiny version trains."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from ranger21.config.compose import compose_config
from ranger21.engine.course import Course
from ranger21.grid.jobs import expand
from ranger21.grid.presets import PRESETS
from ranger21.models.build import build_model
from ranger21.run import experiment
from ranger21.run.optimizers import build_schedule

IMAGES = 1_281_167
# rn50_configs/rn50_56_epochs.yaml of ffcv-imagenet, and defaults of its train_imagenet.py.
SOURCE = {
    "lr": 1.7, "lr_peak_epoch": 2, "min_res": 160, "max_res": 192, "start_ramp": 41, "end_ramp": 48, "batch_size": 512,
    "world_size": 8, "epochs": 56, "label_smoothing": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "resolution": 256,
}  # fmt: skip
SHRUNK = [
    "experiment=strong", "+model.kwargs.layers=[1,1,1,1]", "+model.kwargs.channels=[16,16,16,16]", "data.fraction=0.25",
    "data.batch_size=20", "data.crop=64", "data.crop_start=32", "data.crop_ramp=[0,1]", "data.eval_resize=73",
    "data.eval_crop=64", "data.workers=0", "trainer.epochs=2", "trainer.accumulate=2", "trainer.eval_every_epochs=2",
    "trainer.log_every_steps=1", "trainer.device=cpu", "logger=none", "optimizer.lr=0.0083",  # 1.7 x 20 / 4096
]  # fmt: skip


def test_the_values_are_those_of_the_source() -> None:
    config: Any = compose_config(["experiment=strong"])
    optimizer, data, trainer = config.optimizer, config.data, config.trainer
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("momentum", SOURCE["lr"], SOURCE["momentum"])
    assert (optimizer.weight_decay, optimizer.decay_norm_and_bias) == (SOURCE["weight_decay"], False)
    assert (optimizer.lookahead_k, config.lr_scaling.name, config.batch_schedule.name) == (0, "none", "none")
    assert data.batch_size == SOURCE["batch_size"] * SOURCE["world_size"]
    assert data.batch_size // trainer.accumulate == SOURCE["batch_size"]  # images that batch norm sees at a time
    assert (data.augment, data.flip, data.scale, data.ratio) == (
        "rrc",
        0.5,
        None,
        None,
    )  # torchvision's, which are ffcv's
    assert (data.crop_start, data.crop) == (SOURCE["min_res"], SOURCE["max_res"])
    assert data.crop_ramp == [SOURCE["start_ramp"], SOURCE["end_ramp"]]
    assert data.eval_sizes == (round(SOURCE["resolution"] * 256 / 224), SOURCE["resolution"])
    assert (data.erase, data.mixup, data.cutmix, data.mean, data.std) == (0, 0, 0, None, None)
    assert (trainer.epochs, trainer.label_smoothing) == (SOURCE["epochs"], SOURCE["label_smoothing"])
    assert (trainer.loss, trainer.ema, trainer.clip_grad_norm) == ("cross_entropy", None, None)
    assert (trainer.precision, trainer.channels_last, trainer.batch_norm) == ("fp16", True, "first_rank")


def test_the_size_and_the_rate_follow_the_source_from_epoch_to_epoch() -> None:
    config: Any = compose_config(["experiment=strong"])
    ramp, sizes = [SOURCE["start_ramp"], SOURCE["end_ramp"]], [SOURCE["min_res"], SOURCE["max_res"]]
    epochs, steps = SOURCE["epochs"], IMAGES // SOURCE["world_size"] // SOURCE["batch_size"]
    expected = [int(np.round(np.interp(epoch, ramp, sizes) / 32)) * 32 for epoch in range(epochs)]
    assert [config.data.crop_at(epoch) for epoch in range(epochs)] == expected
    course = Course(IMAGES, config.data.batch_size, epochs)
    assert course.total_steps == epochs * steps
    schedule = build_schedule(config.schedule, course)
    ends = np.interp(range(epochs + 1), [0, SOURCE["lr_peak_epoch"], epochs], [1e-4, 1, 0])
    for epoch, (first, last) in enumerate(pairwise(ends)):
        for done in (0, 1, 100, steps - 1):
            rate = first + (last - first) * done / steps
            assert schedule(epoch * steps + done + 1, course.total_steps) == pytest.approx(rate, abs=1e-9)


def test_the_model_has_torchvisions_parameters_and_initial_scales() -> None:
    ours = build_model(compose_config(["experiment=strong"]).model, 1000, 3).state_dict()
    theirs = torchvision.models.resnet50().state_dict()
    for (name, one), (other, two) in zip(ours.items(), theirs.items(), strict=True):
        assert name.replace(".1.weight", ".weight") == other.replace(".1.weight", ".weight") and one.shape == two.shape
        if one.is_floating_point():
            assert float(one.std(correction=0)) == pytest.approx(float(two.std(correction=0)), rel=0.05), name


@pytest.fixture(scope="module")
def losses(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train the tiny version in this process with further overrides; return its losses, the last one in validation."""
    place = tmp_path_factory.mktemp("strong")

    def train(*overrides: str) -> list[float]:
        directory = place / str(len(list(place.iterdir())))
        assert experiment.run(compose_config([*SHRUNK, f"data.root={images}", *overrides]), directory) == 0
        rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        return [row["train/loss"] for row in rows] + [rows[-1]["val/loss"]]

    return train


def test_every_option_has_an_effect(losses: Any) -> None:
    """data.resize has one only with a pack."""
    seen = [losses(), losses("trainer.precision=fp32")]
    for overrides in (
        ["model.blur_pool=false"], ["model.kwargs.zero_init_last=true"], ["optimizer=nesterov"], ["schedule=cosine"],
        ["data.augment=trivial"], ["data.flip=0"], ["data.crop_start=null", "data.crop_ramp=null"],
        ["data.eval_resize=64"], ["data.eval_crop=48"], ["trainer.label_smoothing=0"], ["trainer.accumulate=1"],
    ):  # fmt: skip
        seen.append(losses("trainer.precision=fp32", *overrides))
    assert np.isfinite(seen).all() and len(set(map(tuple, seen))) == len(seen)


def test_the_preset_is_the_recipe_with_each_optimizer_and_ranger21_with_both_schedules() -> None:
    jobs: list[Any] = expand(PRESETS["strong"], 1, [], [])
    first = [job.config for job in jobs]
    assert first[0].protocol.name == "strong"
    assert first[0].protocol.seeds == [PRESETS["strong"].first_seed + n for n in range(PRESETS["strong"].seeds)]
    assert [(c.optimizer.name, c.schedule.name, c.optimizer.lr, c.optimizer.weight_decay) for c in first] == [
        ("momentum", "triangle", 1.7, 1e-4),
        ("adamw", "triangle", 3e-3, 0.1),
        ("lion", "triangle", 3e-4, 1.0),
        ("ranger21", "triangle", 3e-3, 1e-4),
        ("ranger21", "explore_exploit", 3e-3, 1e-4),
    ]
    for config in first[1:]:
        assert (config.model, config.data, config.trainer) == (first[0].model, first[0].data, first[0].trainer)
    names = [job.directory.name for job in jobs]
    assert names[:4] == [f"resnet50-{name}-s100" for name in ("momentum", "adamw", "lion", "ranger21")]


def test_an_experiment_gives_values_to_its_own_optimizers_only() -> None:
    own: Any = compose_config(["experiment=strong", "optimizer=adamw", "optimizer.lr=7"]).optimizer
    assert (own.lr, own.weight_decay) == (7, 0.1)
    assert compose_config(["experiment=demo", "optimizer=adamw"]).optimizer.weight_decay == 1e-4
