"""The configuration: config files and their classes, run directory names, values that are refused."""

from __future__ import annotations

import math
import re
from dataclasses import Field, asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ranger21.config import (
    RETIRED,
    VARIANTS,
    Config,
    ModelConfig,
    ProtocolConfig,
    TrainerConfig,
    compose,
    result_values,
)
from ranger21.config.compose import compose_config
from ranger21.config.overrides import CONFIG_DIR
from ranger21.records import naming
from ranger21.records.naming import run_directory
from ranger21.report.groups.grouping import IGNORED
from ranger21.report.runs.run import read_settings
from ranger21.system.errors import UserError

FILES = sorted((p.parent.name, p.stem) for p in CONFIG_DIR.glob("*/*.yaml") if p.parent.name != "space")
# The class of each part of the configuration, by the file that sets its values.
CLASSES: dict[str, dict[str, type]] = {
    **VARIANTS,
    "model": {"resnet50": ModelConfig},
    "trainer": {"default": TrainerConfig},
    "protocol": {"none": ProtocolConfig},
    "": {"config": Config},
}
# Fields that name the directory itself have their own tests.
BY_HAND = {".outputs", ".run_dir", "optimizer.name"}
KEYS = [
    (part, variant, f)
    for part, variants in CLASSES.items()
    for variant, cls in variants.items()
    for f in fields(cls)
    if f"{part}.{f.name}" not in BY_HAND and (part or f.name not in CLASSES)
]


@cache
def defaults(*overrides: str) -> Config:
    return compose_config(list(overrides))


@pytest.mark.parametrize("number", range(21))
def test_every_config_file_composes_and_sets_its_own_name(number: int) -> None:
    """Each test combines one file of every group: the first files, then the second files, and so on."""
    names: dict[str, list[str]] = {}
    for group, name in FILES:
        names.setdefault(group, []).append(name)
    assert max(map(len, names.values())) == 21
    chosen = {group: files[number % len(files)] for group, files in names.items() if group != "experiment"}
    config = defaults(*(f"{group}={name}" for group, name in chosen.items()))
    parts = {group: getattr(config, group) for group in chosen if group != "trainer"}
    assert parts["model"].label == chosen["model"]
    assert all(part.name == chosen[group] for group, part in parts.items() if group != "model")
    experiment = names["experiment"][number % len(names["experiment"])]
    assert defaults(f"experiment={experiment}").experiment == experiment  # run directories are named after it


@pytest.mark.parametrize(("group", "name"), [file for file in FILES if file[0] != "experiment"])
def test_the_keys_of_a_config_file_are_the_fields_of_its_class(group: str, name: str) -> None:
    node: Any = OmegaConf.load(CONFIG_DIR / group / f"{name}.yaml")
    if group == "optimizer":
        assert set(node) == {"defaults", "optimizer"}
        node = node.optimizer
    cls = VARIANTS[group][node.name] if group in VARIANTS else next(iter(CLASSES[group].values()))
    assert set(node) == {f.name for f in fields(cls)}


def test_every_class_has_a_config_file_and_every_top_level_key_a_value() -> None:
    assert {(group, name) for group, names in VARIANTS.items() for name in names} <= set(FILES)
    node: Any = OmegaConf.load(CONFIG_DIR / "config.yaml")
    groups = {key for choice in node.defaults if not isinstance(choice, str) for key in choice}
    groups = {key for key in groups if not key.startswith(("override ", "optional "))} - {
        "ablation"
    }  # sets no key of its own
    assert groups == {group for group, _ in FILES}
    assert (set(node) - {"defaults", "hydra"}) | groups == {f.name for f in fields(Config)}


@pytest.mark.parametrize(
    ("overrides", "schedule"),
    [
        (["optimizer=ranger21"], "explore_exploit"),
        (["optimizer=adamw"], "constant"),
        (["optimizer=nesterov", "experiment=demo"], "cosine"),
        (["optimizer=adamw", "schedule=cosine"], "cosine"),
        (["schedule=explore_exploit", "optimizer=nesterov", "experiment=fashion_mnist"], "explore_exploit"),
    ],
)
def test_the_optimizer_determines_the_schedule_unless_one_is_chosen(overrides: list[str], schedule: str) -> None:
    assert defaults(*overrides).schedule.name == schedule


def test_values_are_taken_from_other_settings_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    config: Any = compose_config(["optimizer.betas=[0.9,0.99]"])
    assert (config.schedule.beta2, config.data.root) == (0.99, "/data/imagenet")
    monkeypatch.delenv("IMAGENET_DIR")
    config = compose_config(["optimizer=nesterov", "schedule=explore_exploit"])
    assert (config.schedule.beta2, config.data.root) == (0.999, None)


@pytest.mark.parametrize("name", ["convnext_tiny", "resnet50.a1_in1k"])
def test_any_timm_model_composes(name: str) -> None:
    config = compose_config([f"model={name}"])
    assert config.model == ModelConfig(name, False, {}, None)
    assert run_directory(config) == Path(f"outputs/paper/{name}-ranger21-s0")


def directory(*overrides: str) -> str:
    return str(run_directory(defaults(*overrides)))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "paper/resnet50-ranger21-s0"),
        (["optimizer=adamw", "model=nf_resnet50", "seed=3"], "paper/nf_resnet50-adamw-s3"),
        (["experiment=fashion_mnist", "model=resnet50_nobn"], "fashion_mnist/resnet50_nobn-ranger21-s0"),
        (["model.remove_batch_norm=true"], "paper/resnet50_nobn-ranger21-s0"),
        (["model=resnet10t", "model.remove_skips=true"], "paper/resnet10t_noskip-ranger21-s0"),
        (["model=resnet18d", "model.name=resnet34d"], "paper/resnet34d-ranger21-s0"),
        (["optimizer=adamw", "schedule=constant", "optimizer.lr=0.003"], "paper/resnet50-adamw-s0"),
    ],
)
def test_named_choices_and_explicit_defaults_add_no_hash(overrides: list[str], name: str) -> None:
    assert directory(*overrides) == f"outputs/{name}"


def test_other_choices_add_a_hash_that_depends_only_on_them() -> None:
    fair = directory("optimizer=adamw", "schedule=explore_exploit")
    assert re.fullmatch(r"outputs/paper/resnet50-adamw-s0-[0-9a-f]{8}", fair)
    more = ["optimizer.weight_decay=0.0001", "trainer.device=cpu", "data.root=/elsewhere", "seed=5"]
    assert directory("schedule=explore_exploit", "optimizer=adamw", *more) == fair.replace("s0", "s5")
    assert directory("optimizer=adamw", "schedule=explore_exploit", "schedule.warmup=10%") != fair


def test_run_dir_and_outputs_override_the_default_directory() -> None:
    assert directory("run_dir=/runs/mine", "outputs=elsewhere", "optimizer.lr=1") == "/runs/mine"
    assert directory("outputs=/runs") == "/runs/paper/resnet50-ranger21-s0"


def test_a_checkpoint_older_than_a_key_can_be_read() -> None:
    values = asdict(compose_config(["data=imagenet", "data.root=/data", "data.resize=100", "data.crop=90"]))
    for key in ("pack", "transforms", "classes", "fraction", "on_bad_image", "timeout"):
        del values["data"][key]
    del values["model"]["remove_skips"]
    config: Any = compose.with_overrides(values, ["data.eval_batch_size=7"])
    assert (config.data.resize, config.data.transforms, config.data.eval_batch_size) == (100, "fast", 7)
    assert config.model.label == "resnet50"


def test_a_run_older_than_a_key_is_compared_with_newer_runs(tmp_path: Path) -> None:
    config = OmegaConf.create(asdict(compose_config([])))
    OmegaConf.save(config, tmp_path / "new.yaml")
    del config.model.remove_skips
    OmegaConf.save(config, tmp_path / "old.yaml")
    assert read_settings(tmp_path / "old.yaml") == read_settings(tmp_path / "new.yaml")


# Another valid value for each field for which `another` cannot derive one from the type.
OTHERS: dict[str, Any] = {
    "init_from": "weights.pt",
    "kwargs": {"drop_rate": 0.1},
    "betas": [0.8, 0.99],
    "stable_decay": "global",
    "resize_mode": "shorter_side",
    "transforms": "pil",
    "classes": 10,
    "on_bad_image": "substitute",
    "train_images": 1000,
    "imbalance": 1.0,
    "augment": "rrc",
    "scale": [0.35, 1.0],
    "ratio": [0.5, 2.0],
    "rand_operations": 3,
    "rand_magnitude": 5,
    "interpolation": "bicubic",
    "eval_resize": 300,
    "eval_crop": 224,
    "crop_start": 128,
    "crop_ramp": [3, 5],
    "erase": 0.25,
    "mixup": 0.2,
    "cutmix": 1.0,
    "eval_every_steps": 5,
    "init_seed": 1,
    "continue_from": "/runs/parent",
    "data_seed": 1,
    "workers": 3,
    "root": "/elsewhere",
    "steps": 100,
    "precision": "fp64",
    "on_nonfinite": "skip",
    "device": "cpu",
    "checkpoint_every_steps": 10,
    "mode": "online",
    "tags": ["new"],
    "resume": "never",
    "experiment": "demo",
    "state": "july2021",
    "init": "xavier_normal",
    "keep_every": "2 epochs",
    "loss": "bce",
    "clip_grad_norm": 1.0,
    "ema": 0.9,
    "layer_decay": 0.5,
    "batch_norm": "mean",
    "batch_norm_images": 100,
    "parts": ["agc", "second_moment"],
    "momentum": 0.5,
    "initial_accumulator_value": 1.0,
    "anneal": "linear",
    "final": 0.01,
    "seeds": [3],
    "metric": "val/loss",
    "targets": [50.0],
    **dict.fromkeys(("linear_warmup", "warmup", "warmdown", "every", "over", "rise", "half_cycle"), "7 images"),
}


def another(name: str, value: Any) -> Any:
    """Return a valid value for the field that differs from this one."""
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value / 2
    return f"{value or ''}x"


def neutral_keys() -> set[str]:
    """Return the dotted keys, and the parts, that do not change a run's result."""
    keys = {f"{part}.{f.name}" for part, _, f in KEYS if part and f.metadata.get("neutral")}
    return keys | {f.name for f in fields(Config) if f.metadata.get("neutral")}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose the default configuration only once, instead of once per field."""

    def remembered(experiment: str, model: str, optimizer: str) -> dict[str, Any]:
        return result_values(defaults(f"experiment={experiment}", f"optimizer={optimizer}"))

    monkeypatch.setattr(naming, "_plain_values", remembered)


# What a field needs to be allowed to have another value.
NEEDED = {
    "final_validation": ["data.holdout=10"],
    "scale": ["data.augment=rrc"],
    "ratio": ["data.augment=rrc"],
    "crop_start": ["data.crop_start=160", "data.crop_ramp=[2,4]"],
    "crop_ramp": ["data.crop_start=160", "data.crop_ramp=[2,4]"],
    "rand_operations": ["data.augment=rand"],
    "rand_magnitude": ["data.augment=rand"],
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("part", "variant", "field"), KEYS, ids=[".".join((p, v, f.name)) for p, v, f in KEYS])
def test_a_field_changes_the_directory_unless_it_is_neutral(part: str, variant: str, field: Field) -> None:
    config = defaults(*([f"{part}={variant}"] if part else []), *NEEDED.get(field.name, []))
    old = getattr(config, part) if part else config
    with_it = {"cudnn_benchmark": False} if field.name == "deterministic" else {}  # required; neutral, too
    of_channels = [0.5] * old.shape[0] if field.name in ("mean", "std") else None
    value = of_channels or another(field.name, getattr(old, field.name))
    new = replace(old, **{field.name: value}, **with_it)
    changed = replace(config, **{part: new}) if part else new
    neutral = {field.name, part, f"{part}.{field.name}"} & neutral_keys()
    assert (run_directory(changed) == run_directory(config)) == bool(neutral)


# Impossible values, by class and field.
IMPOSSIBLE = [
    ("optimizer", "ranger21", "lr", [-1e-9, math.nan, math.inf]),
    ("optimizer", "adamw", "weight_decay", [-0.1, math.nan]),
    ("optimizer", "adamw", "betas", [[0.9], [0.9, 0.99, 0.999], [1.0, 0.9], [0.9, -0.1], [math.nan, 0.9]]),
    ("optimizer", "ranger21", "betas", [[], [0.9, 1.0]]),
    ("optimizer", "ranger21", "pnm_beta", [-0.1]),
    ("optimizer", "ranger21", "agc_clipping", [0.0, math.nan]),
    ("optimizer", "ranger21", "stable_decay", ["locally"]),
    ("data", "imagenet", "holdout", [-1]),
    ("optimizer", "ranger21", "lookahead_k", [-1]),
    ("optimizer", "ranger21", "lookahead_beta", [1.0, -0.5]),
    ("optimizer", "nesterov", "momentum", [0.0, 1.0]),
    ("optimizer", "ranger21_official", "state", ["june2021"]),
    ("optimizer", "ranger21_official", "agc_clipping", [0.0]),
    ("optimizer", "radam", "betas", [[0.9]]),
    ("optimizer", "rmsprop", "alpha", [1.0]),
    ("optimizer", "lamb", "max_grad_norm", [0.0]),
    ("optimizer", "lars", "trust_coeff", [0.0]),
    ("optimizer", "lion", "lookahead_k", [-1]),
    ("lr_scaling", "linear", "base_batch_size", [0]),
    ("lr_scaling", "linear_then_sqrt", "linear_until", [32]),
    ("batch_schedule", "linear", "start", [0]),
    ("batch_schedule", "linear", "over", ["1.5", "ten images"]),
    ("schedule", "one_cycle", "anneal", ["square"]),
    ("schedule", "step", "every", ["5 epochen"]),
    ("schedule", "explore_exploit", "warmup", ["-1", "0.22", "101%", "nan", "", "%"]),
    ("schedule", "explore_exploit", "beta2", [1.0]),
    ("data", "imagenet", "batch_size", [0, -64]),
    ("data", "imagenet", "workers", [-1]),
    ("data", "imagenet", "crop", [0, 289]),
    ("data", "imagenet", "resize", [255]),
    ("data", "imagenet", "resize_mode", ["longer_side"]),
    ("data", "imagenet", "transforms", ["quick"]),
    ("data", "imagenet", "classes", [0]),
    ("data", "imagenet", "fraction", [0.0, 1.5, math.nan]),
    ("data", "imagenet", "on_bad_image", ["skip"]),
    ("data", "imagenet", "timeout", [0.0, math.nan]),
    ("data", "imagenet", "flip", [1.5, math.nan]),
    ("data", "imagenet", "saturation", [-0.4, 1.4]),
    ("data", "imagenet", "augment", ["autoaugment"]),
    ("data", "imagenet", "interpolation", ["nearest"]),
    ("data", "imagenet", "eval_resize", [255, 0]),
    ("data", "imagenet", "eval_crop", [289]),
    ("data", "fashion_mnist", "train_images", [0, 60_001]),
    ("trainer", "default", "epochs", [0]),
    ("trainer", "default", "accumulate", [0]),
    ("trainer", "default", "profile", [-1, 101]),
    ("trainer", "default", "label_smoothing", [-0.1, 1.0]),
    ("trainer", "default", "clip_grad_norm", [0.0, -1.0, math.nan]),
    ("trainer", "default", "ema", [0.0, 1.0, -0.5, math.nan]),
    ("trainer", "default", "layer_decay", [0.0, 1.0, -0.5, math.nan]),
    ("trainer", "default", "batch_norm", ["rank1"]),
    ("trainer", "default", "batch_norm_images", [0, -1]),
    ("trainer", "default", "loss", ["hinge"]),
    ("trainer", "default", "precision", ["int8"]),
    ("trainer", "default", "on_nonfinite", ["ignore"]),
    ("trainer", "default", "device", ["tpu", "cuda:x", "cpu:first", "cuda:-1", ""]),
    ("trainer", "default", "checkpoint_every_minutes", [0.0, math.nan]),
    ("logger", "wandb", "mode", ["disabled"]),
    ("protocol", "none", "name", [" "]),
    ("protocol", "none", "seeds", [[0, -1], [3, 3], [[3]]]),
    ("protocol", "none", "metric", ["train/acc1"]),
    ("protocol", "none", "margin", [0.0, 100.0, math.nan]),
    ("protocol", "none", "targets", [[[50.0]], [0.0], [101.0], [70.0, 60.0], [60.0, 60.0], [math.nan]]),
    ("protocol", "none", "min_validations", [0]),
    ("", "", "seed", [-1, 2**31]),
    ("", "", "resume", ["always"]),
]


@pytest.mark.parametrize(
    ("part", "variant", "name", "value"), [(*where, value) for *where, values in IMPOSSIBLE for value in values]
)
def test_impossible_values_are_refused(part: str, variant: str, name: str, value: Any) -> None:
    config = defaults(f"{part}={variant}") if part else defaults()
    with pytest.raises(UserError, match=r"is invalid: it must be \S.*\.$") as caught:
        replace(getattr(config, part) if part else config, **{name: value})
    assert f"{part}.{name}".lstrip(".") in str(caught.value)


def test_the_report_ignores_settings_that_do_not_change_a_result() -> None:
    """The report ignores the seeds too, because it groups runs that differ only in their seeds."""
    assert neutral_keys() | {"seed", "init_seed", "data_seed"} == set(IGNORED) - RETIRED
