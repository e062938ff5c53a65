"""The protocol: fixed before the runs, recorded with each of them, and without effect on their results."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.claims import write_run

from ranger21.config import ProtocolConfig
from ranger21.config.compose import compose_config
from ranger21.config.overrides import CONFIG_DIR
from ranger21.config.protocol import protocol_hash, protocol_mark
from ranger21.records.directory import RunDirectory, read_config, to_dict
from ranger21.records.naming import run_directory
from ranger21.records.sessions import session
from ranger21.report.claims.page import markdown
from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.groups.protocols import protocol, protocol_summary
from ranger21.report.runs.finding import find_runs
from ranger21.report.runs.run import RecordedRun

NAMES = sorted(path.stem for path in CONFIG_DIR.glob("protocol/*.yaml"))


def test_a_protocol_does_not_change_run_directories() -> None:
    plain = compose_config([])
    assert plain.protocol.name == "paper"  # set by experiment=paper
    assert {run_directory(compose_config([f"protocol={name}"])) for name in NAMES} == {run_directory(plain)}
    assert compose_config(["experiment=demo"]).protocol == ProtocolConfig()
    assert compose_config(["protocol=none"]).protocol == ProtocolConfig()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_a_protocol_fixes_everything(name: str) -> None:
    chosen = compose_config([f"protocol={name}"]).protocol
    assert chosen.name == name and len(chosen.seeds) >= 5 and chosen.targets and chosen.stopping
    if name != "paper":
        assert min(chosen.seeds) >= 100  # smaller seeds are for tuning trials


def test_the_hash_depends_only_on_content() -> None:
    one = compose_config(["protocol=paper"]).protocol
    same = [
        replace(one, seeds=one.seeds[::-1]),
        replace(one, stopping=one.stopping.replace(" ", "\n  ") + "\n"),
        compose_config(["protocol=paper", "protocol.targets=[60.0,68.0,71.08,73.69]"]).protocol,
    ]
    assert {protocol_hash(other) for other in same} == {protocol_hash(one)}
    changes: list[dict[str, Any]] = [
        {"name": "mine"}, {"seeds": [0, 1, 2]}, {"metric": "val/loss"}, {"margin": 0.4}, {"targets": [60.0]},
        {"min_validations": 3}, {"stopping": "when it looks good"},
    ]  # fmt: skip
    assert {key for change in changes for key in change} == set(asdict(one))
    others = {protocol_hash(replace(one, **change)) for change in changes}
    assert len(others | {protocol_hash(one)}) == len(changes) + 1


def test_a_run_keeps_the_protocol_it_was_started_under(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = compose_config(["data.root=/data"])
    place = RunDirectory(tmp_path / "run")
    place.claim(config)
    with caplog.at_level(logging.WARNING, "ranger21"):
        place.begin({}, session(1, "cpu", 0), "id", protocol_mark(config.protocol))
        place.begin({}, session(1, "cpu", 3), "id", protocol_mark(config.protocol))
        assert "protocol" not in caplog.text
        place.begin({}, session(1, "cpu", 5), "id", protocol_mark(ProtocolConfig()))
    assert "This run was started under the protocol paper (" in caplog.text
    assert json.loads(place.manifest.read_text())["protocol"] == protocol_mark(config.protocol)
    assert read_config(place.config).protocol == config.protocol


def recorded(path: Path, *overrides: str, without: bool = False) -> Path:
    path.mkdir(parents=True)
    values = to_dict(compose_config(list(overrides)))
    if without:
        del values["protocol"]
    OmegaConf.save(OmegaConf.create(values), path / "config.yaml")
    (path / "metrics.jsonl").write_text("")
    return path


def test_a_run_older_than_protocols_has_none(tmp_path: Path) -> None:
    path = recorded(tmp_path / "old", without=True)
    assert read_config(path / "config.yaml").protocol == ProtocolConfig()
    (run,) = find_runs([str(path)]).runs
    assert protocol(run) == ProtocolConfig()


@pytest.mark.parametrize("nonsense", [{"margin": "wide"}, {"seeds": 3}, {"targets": [[1]]}, {"margin": -1.0}])
def test_an_invalid_protocol_counts_as_none(tmp_path: Path, nonsense: dict[str, Any]) -> None:
    path = recorded(tmp_path / "x")
    values: Any = OmegaConf.load(path / "config.yaml")
    values.protocol.update(nonsense)
    OmegaConf.save(values, path / "config.yaml")
    (run,) = find_runs([str(path)]).runs
    assert protocol(run) == ProtocolConfig()


# Departures


@cache
def recorded_mark(overrides: tuple[str, ...]) -> dict[str, str]:
    return protocol_mark(compose_config(list(overrides)).protocol)


def protocol_run(
    path: Path, optimizer: str, seed: int, *overrides: str, top1: int = 60, status: str = "finished"
) -> RecordedRun:
    """Return a run of experiment=paper that started under its configuration's protocol."""
    write_run(path, [f"optimizer={optimizer}", f"seed={seed}", *overrides], [70.0] * top1, status=status)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["protocol"] = recorded_mark(overrides)
    (path / "manifest.json").write_text(json.dumps(manifest))
    return read(path)


def read(path: Path) -> RecordedRun:
    (run,) = find_runs([str(path)]).runs
    return run


def line(runs: list[RecordedRun]) -> str:
    (comparison,) = compare_like_with_like(runs)
    return protocol_summary(comparison)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[RecordedRun]:
    """Runs of two optimizers with every seed of the protocol."""
    place = tmp_path_factory.mktemp("whole")
    return [
        protocol_run(place / f"{o}{seed}", o, seed) for o, seed in itertools.product(("ranger21", "adamw"), range(5))
    ]


def test_runs_that_follow_their_protocol_have_no_departure(whole: list[RecordedRun]) -> None:
    digest = protocol_hash(compose_config([]).protocol)
    assert line(whole) == f"protocol paper ({digest}); no departure from it."
    assert digest in markdown(compare_like_with_like(whole))


@pytest.mark.parametrize(
    ("optimizer", "seed", "overrides", "settings", "words"),
    [
        ("adamw", 7, [], {}, "seeds not in the protocol: 7 (adamw)"),
        ("adamw", 4, ["outputs=x"], {}, "seeds run more than once: 4 (adamw)"),
        ("lion", 0, [], {}, "seeds missing: 1, 2, 3, 4 (lion)"),
        ("lion", 0, [], {"top1": 59}, "fewer than 60 validations: lion seed 0"),
        ("lion", 0, [], {"status": "running"}, "not finished: lion seed 0"),
        ("lion", 0, ["protocol=none"], {}, "no protocol (lion seed 0)"),
        ("lion", 0, ["protocol.margin=5"], {}, "the runs have different protocols: paper ("),
    ],
)
def test_each_departure_is_reported(
    whole: list[RecordedRun], tmp_path: Path, optimizer: str, seed: int, overrides: list[str], settings: Any, words: str
) -> None:
    assert words in line([*whole, protocol_run(tmp_path / "more", optimizer, seed, *overrides, **settings)])


def test_an_early_divergence_is_not_a_departure(whole: list[RecordedRun], tmp_path: Path) -> None:
    lost = [protocol_run(tmp_path / str(seed), "lion", seed, top1=1, status="diverged") for seed in range(5)]
    assert line([*whole, *lost]).endswith("; no departure from it.")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["protocol.margin=5"], "it differs from configs/protocol/paper.yaml in this version of the code (margin)"),
        (["protocol.metric=val/loss"], "its metric is val/loss, but these tables use val/acc1"),
        (["trainer.epochs=30"], "settings that differ from experiment=paper: trainer.epochs"),
        (["protocol.seeds=[0,1]", "protocol.name=mine"], "protocol mine ("),
    ],
)
def test_a_departure_of_all_runs_is_reported(tmp_path: Path, overrides: list[str], words: str) -> None:
    assert words in line([protocol_run(tmp_path / str(seed), "adamw", seed, *overrides) for seed in range(2)])


def test_runs_without_a_protocol_are_reported(tmp_path: Path) -> None:
    assert (
        line([protocol_run(tmp_path / "run", "adamw", 0, "protocol=none")])
        == "no protocol was fixed before these runs."
    )


def test_a_protocol_edited_after_the_start_is_reported(tmp_path: Path) -> None:
    path = protocol_run(tmp_path / "run", "adamw", 0).path
    values: Any = OmegaConf.load(path / "config.yaml")
    values.protocol.seeds = [0]
    OmegaConf.save(values, path / "config.yaml")
    assert "config.yaml and manifest.json differ in protocol: adamw seed 0" in line([read(path)])
