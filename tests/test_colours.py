"""The table of colours, the looks of groups, and the names of the ablation's configurations."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest

from ranger21.config import VARIANTS
from ranger21.config.ablation import INGREDIENTS, ON
from ranger21.report.groups.ablation_names import DEFAULTS
from ranger21.report.groups.grouping import group_runs
from ranger21.report.groups.looks import looks, looks_of
from ranger21.report.runs.finding import find_runs
from ranger21.tracking.colours import DASHES, OPTIMIZERS, look_of

PAPER, DARK = "#FFFFFF", "#121418"


def contrast(a: str, b: str) -> float:
    """The contrast ratio of WCAG 2: from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_every_optimizer_has_a_legible_look_of_its_own() -> None:
    assert set(VARIANTS["optimizer"]) <= set(OPTIMIZERS)
    for look in OPTIMIZERS.values():
        assert contrast(look.light, PAPER) >= 3 and contrast(look.dark, DARK) >= 3
        assert look.dash in DASHES
    for scheme in ("light", "dark"):
        assert len({(getattr(look, scheme), look.dash) for look in OPTIMIZERS.values()}) == len(OPTIMIZERS)


def test_ranger21_is_the_most_visible_and_adamw_is_next() -> None:
    ours, adamw = OPTIMIZERS["ranger21"], OPTIMIZERS["adamw"]
    others = [look for name, look in OPTIMIZERS.items() if name not in ("ranger21", "adamw")]
    assert ours.width > adamw.width > max(look.width for look in others)
    assert not {ours.light, adamw.light} & {look.light for look in others}
    assert not {ours.dark, adamw.dark} & {look.dark for look in others}


@pytest.mark.parametrize("company", [["adamw"], ["adamw", "lion", "zebra"], ["another", "muon"]])
def test_the_colour_of_an_optimizer_does_not_depend_on_its_company(company: list[str]) -> None:
    drawn = looks_of({name: name for name in ["ranger21", *company]})
    assert drawn == {name: look_of(name) for name in ["ranger21", *company]}


def test_groups_of_one_optimizer_can_be_told_apart_and_are_legible() -> None:
    labels = {f"{name} lr={rate}": name for name in ("adamw", "ranger21") for rate in range(12)}
    for optimizers in (labels, {label: name for label, name in labels.items() if name == "ranger21"}):
        drawn = looks_of(optimizers)
        assert all(a != b for a, b in combinations(drawn.values(), 2))
        assert min(contrast(look.light, PAPER) for look in drawn.values()) >= 3
        assert min(contrast(look.dark, DARK) for look in drawn.values()) >= 3
        assert look_of("ranger21") in drawn.values()


def write_runs(place: Path, configurations: dict[str, tuple[str, ...]], **more: object) -> None:
    """Write a run of each configuration of the ablation, given the ingredients that are on."""
    for name, on in configurations.items():
        values = {key: DEFAULTS[key] if part in on else off for part, (key, off) in INGREDIENTS.items()} | more
        config: dict[str, dict[str, object]] = {"optimizer": {"name": "ranger21"}, "model": {"name": "resnet50"}}
        for key, value in values.items():
            group, _, setting = key.partition(".")
            config.setdefault(group, {})[setting] = value
        (place / name).mkdir(parents=True)
        (place / name / "config.yaml").write_text(json.dumps({"seed": 0, **config}))
        (place / name / "metrics.jsonl").write_text('{"step": 1, "epoch": 1, "val/acc1": 50}\n')


def test_groups_of_the_ablation_have_the_names_of_its_configurations(tmp_path: Path) -> None:
    write_runs(tmp_path, ON)
    groups = group_runs(find_runs([str(tmp_path)]).runs)
    assert {group.label: group.runs[0].path.name for group in groups} == {name: name for name in ON}
    own = dict(zip([group.label for group in groups], looks(groups), strict=True))
    assert own["7_lookahead"] == look_of("ranger21")


def test_a_name_of_the_ablation_hides_no_other_setting(tmp_path: Path) -> None:
    """Other values than Ranger21's own stay in the label, and ingredients that no configuration combines are listed."""
    write_runs(tmp_path, ON)
    write_runs(tmp_path / "longer", {"minus_pnm": ON["minus_pnm"]}, **{"optimizer.lookahead_k": 10})
    write_runs(tmp_path / "own", {"two": ("agc", "pnm")})
    labels = {
        str(group.runs[0].path.relative_to(tmp_path)): group.label
        for group in group_runs(find_runs([str(tmp_path)]).runs)
    }
    assert labels["minus_pnm"] == "minus_pnm"
    assert labels["longer/minus_pnm"] == "minus_pnm lookahead_k=10"
    assert "pnm=true" in labels["own/two"] and "lookahead_k=0" in labels["own/two"]


def test_a_label_with_few_ingredients_keeps_the_settings(tmp_path: Path) -> None:
    write_runs(tmp_path, {name: ON[name] for name in ("minus_pnm", "7_lookahead")})
    assert [group.label for group in group_runs(find_runs([str(tmp_path)]).runs)] == ["pnm=false", "pnm=true"]


def test_the_defaults_are_those_of_the_configuration() -> None:
    from ranger21.config.compose import compose_config

    config = compose_config(["optimizer=ranger21"])
    found = {key: getattr(getattr(config, key.partition(".")[0]), key.partition(".")[2]) for key in DEFAULTS}
    assert found == DEFAULTS
