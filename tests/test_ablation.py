"""The choices of `ablation=`, which ranger21/config/ablation.py generates: names, contents, error messages, sweeps."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from support.command_runner import CommandRunner

from ranger21.config.ablation import ALL, INGREDIENTS, ON, nodes
from ranger21.config.compose import compose_config, composing
from ranger21.config.groups import GROUPS, choices
from ranger21.records.naming import run_directory

# The ending of each run directory's name, from when every choice had its own file in configs/ablation.
ENDINGS = {
    "0_adamw": "-fb3392ae",
    "1_schedule": "-3d7ec087",
    "2_agc": "-e56d97c4",
    "3_centralize": "-172372f7",
    "4_pnm": "-146b5fa8",
    "5_stable_decay": "-ef466de9",
    "6_norm_loss": "-a4bda71d",
    "7_lookahead": "",
    "minus_agc": "-e47c25a3",
    "minus_centralize": "-19dc9271",
    "minus_norm_loss": "-dd69c088",
    "minus_pnm": "-c6912462",
    "minus_schedule": "-0d4ee645",
    "minus_stable_decay": "-20e0b95b",
    "none": "",
    "only_agc": "-b6959577",
    "only_centralize": "-ea23738c",
    "only_lookahead": "-b3de7827",
    "only_norm_loss": "-5839639b",
    "only_pnm": "-c8141cc7",
    "only_stable_decay": "-0e835261",
}


@pytest.fixture(scope="module")
def configs() -> dict[str, Any]:
    with composing():
        return {name: compose_config(["experiment=ablation", f"ablation={name}"]) for name in ENDINGS}


def test_run_directories_keep_their_earlier_names(configs: dict[str, Any]) -> None:
    assert {*nodes()} == {*ENDINGS} == {*choices("ablation")} and "ablation" in GROUPS
    names = {name: run_directory(config).name for name, config in configs.items()}
    assert names == {name: f"resnet50-ranger21-s0{ending}" for name, ending in ENDINGS.items()}


def test_the_ladder_adds_and_minus_removes_one_ingredient_at_a_time(configs: dict[str, Any]) -> None:
    """Each step of the ladder adds one ingredient, each `minus_` choice removes one, and no two choices are equal."""
    assert len({run_directory(configs[name]) for name in ON}) == len(ON) == 20
    full = configs["none"]
    assert configs["7_lookahead"] == full == compose_config(["experiment=ablation"])

    def off(config: Any) -> set[str]:
        chosen, plain = vars(config.optimizer), vars(full.optimizer)
        off = {key for key in plain if chosen[key] != plain[key]}
        return off | ({"schedule"} if config.schedule != full.schedule else set())

    ladder = [off(configs[name]) for name in sorted(ON) if name[0].isdigit()]
    assert [len(switches) for switches in ladder] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert all(after < before for before, after in itertools.pairwise(ladder))
    minus = [off(configs[name]) for name in ON if name.startswith("minus_")]
    assert all(len(switches) == 1 for switches in minus)
    assert set().union(*minus, ladder[6]) == ladder[0]


def test_each_choice_switches_on_exactly_the_ingredients_that_it_lists(configs: dict[str, Any]) -> None:
    def value(config: Any, key: str) -> Any:
        part, _, name = key.partition(".")
        return getattr(getattr(config, part), name)

    for name, on in {"none": ALL, **ON}.items():
        for ingredient, (key, off) in INGREDIENTS.items():
            is_off = value(configs[name], key) == off
            assert is_off == (ingredient not in on), (name, ingredient)


SAID = {
    "train.py ablation=minus_lookahead": "ablation=minus_lookahead does not exist: ablation is one of 0_adamw, ",
    "train.py ablation=": "ablation= is invalid: ablation is one of 0_adamw, 1_schedule",
    "train.py minus_pnm": "'minus_pnm' is not of the form key=value: ablation=minus_pnm.",
    "train.py -m 'ablation=glob(x*)'": "ablation=glob(x*) matches no choice: ablation is one of 0_adamw, ",
}


@pytest.mark.parametrize("typed", SAID)
def test_an_error_about_an_unknown_choice_lists_the_known_ones(typed: str, commands: CommandRunner) -> None:
    commands.refuses(typed, 1, SAID[typed], {})


@pytest.mark.parametrize("chosen", ["'glob([only_n*,only_m*])'", "only_mine,only_norm_loss"])
def test_a_sweep_accepts_built_in_choices_and_those_of_the_user(
    chosen: str, commands: CommandRunner, tmp_path: Path
) -> None:
    """The sweep names choices or uses glob(); one choice is in the user's folder. Each run lacks only its data."""
    (tmp_path / "ablation").mkdir()
    (tmp_path / "ablation" / "only_mine.yaml").write_text("# @package _global_\noptimizer: {pnm: false}\n")
    typed = f"train.py -m ablation={chosen} data.root=/nowhere --config-dir $HERE"
    answer = commands.run(typed, {"HERE": tmp_path})
    runs = [f"error: ablation={name}: There is no folder /nowhere" for name in ("only_mine", "only_norm_loss")]
    told = answer.err.splitlines()
    assert answer.code == 1 and [line[: len(run)] for line, run in zip(told, runs, strict=False)] == runs
    assert told[2] == "error: 2 of 2 runs failed:"
