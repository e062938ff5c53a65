"""The sweep files, as W&B's agent uses them."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.project import ROOT

from ranger21.config.compose import CONFIG_DIR, compose_config, composing
from ranger21.records.naming import run_directory
from ranger21.tracking.loggers.weights_and_biases import WandbConfig
from ranger21.tracking.panels import PANELS

SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def commands(sweep: dict[str, Any]) -> list[list[str]]:
    """Return the overrides, written like ${args_no_hyphens}, of enough runs to use every value of every parameter."""
    values = {name: spec.get("values") or [spec["value"]] for name, spec in sweep["parameters"].items()}
    words = sweep["command"][sweep["command"].index("train.py") + 1 :]
    typed = []
    for index in range(max(map(len, values.values()))):
        own = [f"{name}={choices[index % len(choices)]}" for name, choices in values.items()]
        typed.append([arg for word in words for arg in (own if word == "${args_no_hyphens}" else [word])])
    return typed


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_runs_of_a_sweep_can_be_composed(path: Path):
    sweep = yaml.safe_load(path.read_text())
    assert sweep["command"][:3] == ["${env}", "python", sweep["program"]] and (ROOT / sweep["program"]).is_file()
    assert sweep["metric"]["name"] in {panel.metric for panel in PANELS}
    typed = commands(sweep)
    with composing():
        configs = [compose_config(overrides) for overrides in typed]
    assert len({run_directory(config) for config in configs}) == len(typed) > 1
    for config, overrides in zip(configs, typed, strict=True):
        assert isinstance(config.logger, WandbConfig) and config.logger.mode == "online"
        assert f"optimizer.lr={config.optimizer.lr}" in overrides and f"seed={config.seed}" in overrides


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_do_not_vary_config_groups(path: Path):
    """W&B locks a swept value, so the configuration that it shows would contain only the name of the group's choice."""
    groups = {folder.name for folder in CONFIG_DIR.iterdir() if folder.is_dir()}
    assert not groups & set(yaml.safe_load(path.read_text())["parameters"])
