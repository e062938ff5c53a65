"""How reproduce.py computes the cost of runs from machine.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ranger21.config.compose import compose_config
from ranger21.grid.cost import cost, require_use
from ranger21.grid.jobs import expand
from ranger21.grid.presets import PRESETS
from ranger21.machine import record
from ranger21.machine.check import CheckResult, CheckRow
from ranger21.system.errors import UserError


def written(place: Path, name: str, *overrides: str, speed: float = 1000.0) -> Path:
    numbers = {"training": {"images_per_s": speed, "checkpoint_bytes": 10**8}, "device": {"device": "NVIDIA H200"}}
    found = [CheckRow(check, CheckResult("", numbers=values), 1.0) for check, values in numbers.items()]
    record.write(place / name, compose_config(list(overrides)), found, quick=True, whole=True)
    return place / name


def test_reproduce_computes_the_cost_from_machine_json(tmp_path: Path) -> None:
    jobs = expand(PRESETS["paper"], 1, ["model=resnet50"], [f"outputs={tmp_path / 'runs'}"])
    ranger = record.read(written(tmp_path, "r.json", "model=resnet50", "optimizer=ranger21"))
    adamw = record.read(written(tmp_path, "a.json", "model=resnet50", "optimizer=adamw", "seed=7", speed=2000.0))
    known = cost(jobs, [ranger, adamw])
    images = 60 * 1_281_167
    assert known.hours == pytest.approx(images / 1000 / 3600 + images / 2000 / 3600)
    assert known.bytes == 2 * 3 * 10**8
    assert f"{ranger.source}: 1,000 for resnet50 with ranger21 on NVIDIA H200" in known.sentence(1)
    assert cost(jobs, [ranger]).unknown == ("resnet50 with adamw",)
    with pytest.raises(UserError, match=r"measured the same training .*: give one of them"):
        cost(jobs, [ranger, ranger])


@pytest.mark.parametrize(
    "other", ["model=resnet18", "data.batch_size=128", "data.crop=224", "trainer.precision=fp32", "optimizer.pnm=false"]
)
def test_machine_json_of_different_settings_is_refused(tmp_path: Path, other: str) -> None:
    jobs = expand(PRESETS["paper"], 1, ["model=resnet50"], [f"outputs={tmp_path / 'runs'}"])
    foreign = record.read(written(tmp_path, "m.json", "model=resnet50", other))
    with pytest.raises(
        UserError,
        match=rf"m.json \(1,000 for .*measured none of these runs: the nearest has .*{other.partition('=')[0]}",
    ):
        require_use(jobs, [foreign])
    assert cost(jobs, [foreign]).hours is None


def test_unusable_machine_json_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "m.json", "model=resnet50")
    whole = json.loads(path.read_text())
    for change, words in (
        ({"kind": "x"}, "is not a machine.json"),
        ({"format": 99}, "the format is 99"),
        ({"checks": 1}, "checks is not a list"),
        ({"checks": []}, "has no training speed"),
    ):
        path.write_text(json.dumps(whole | change))
        with pytest.raises(UserError, match=words):
            record.read(path)
