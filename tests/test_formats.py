"""Files that earlier versions wrote still open: tests/formats/N (see tests/formats/README.md).

Runs that today's code resumes must end with the weights that the old code reached: bit for bit on a similar machine,
and up to rounding elsewhere.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.command_runner import CommandResult, CommandRunner
from support.training import metrics_lines, result

from ranger21.data.index_cache import cache_files
from ranger21.data.indexing import read_index

FORMATS = Path(__file__).resolve().parent / "formats"
VERSIONS = sorted(path.name for path in FORMATS.iterdir() if path.name.isdigit())
FACTS: dict[str, dict[str, Any]] = {name: json.loads((FORMATS / name / "facts.json").read_text()) for name in VERSIONS}
KINDS = [(version, kind) for version in VERSIONS for kind in FACTS[version]["checkpoints"]]
RUNS = [(version, run) for version in VERSIONS for run in FACTS[version]["answers"] if "-s" in run]
each_version = pytest.mark.parametrize("old", VERSIONS, indirect=True)
ROUNDING: dict[str, float] = {"rtol": 1e-3, "atol": 1e-5}  # after a dozen steps on another machine


@dataclass(frozen=True)
class Old:
    """A copy of a version's files, with the recorded facts about them."""

    version: str
    place: Path

    @property
    def facts(self) -> dict[str, Any]:
        return FACTS[self.version]

    @property
    def answers(self) -> dict[str, Any]:
        return self.facts["answers"]

    def run(self, seed: int) -> Path:
        return next(path for path in (self.place / "runs" / "paper").iterdir() if f"-s{seed}" in path.name)

    def here(self, overrides: list[str]) -> str:
        """Return the overrides as part of a command line, with the image folder of the copy."""
        return " ".join(f"'{override.replace('=images', f'={self.place}/images')}'" for override in overrides)


@pytest.fixture
def old(tmp_path: Path, request: pytest.FixtureRequest) -> Old:
    """A copy of a version's files; its image folders have the modification times that the cached index expects."""
    place = tmp_path / "old"
    shutil.copytree(FORMATS / request.param, place)
    for split in ("train", "val"):
        with np.load(place / "images" / f".{split}.index.npz") as arrays:
            times: dict[str, int] = json.loads(str(arrays["facts"]))["times"]
        for folder, nanoseconds in times.items():
            os.utime(place / "images" / split / folder, ns=(nanoseconds, nanoseconds))
    return Old(request.param, place)


def done(commands: CommandRunner, line: str) -> CommandResult:
    answer = commands.run(line, {})
    assert answer.code == 0, f"{line}\n{answer.out}\n{answer.err}"
    return answer


def same_machine(facts: dict[str, Any]) -> bool:
    return (facts["versions"]["torch"], facts["cpu"]) == (torch.__version__, torch.backends.cpu.get_cpu_capability())


def assert_ends_as_before(directory: Path, version: str, name: str) -> None:
    """Assert that the last weights are those that the old code reached."""
    ends, weights = load_file(FORMATS / version / "ends.safetensors"), weights_of(directory)
    assert {f"{name}/{key}" for key in weights} == {key for key in ends if key.startswith(f"{name}/")}
    for key, tensor in weights.items():
        if same_machine(FACTS[version]):
            assert torch.equal(tensor, ends[f"{name}/{key}"]), key
        else:
            torch.testing.assert_close(tensor, ends[f"{name}/{key}"], **ROUNDING)


def weights_of(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "checkpoints" / "last.pt", weights_only=True)["model"]


@pytest.mark.parametrize(("old", "kind"), KINDS, indirect=["old"])
def test_an_old_run_resumes_with_its_optimizer(commands: CommandRunner, old: Old, kind: str) -> None:
    run, steps = old.place / "checkpoints" / kind, old.facts["step"]
    answer = done(commands, f"train.py {old.here(old.facts['checkpoints'][kind])} run_dir={run}")
    assert f"Resumed at step {steps['stopped']} of {steps['last']}." in answer.out + answer.err
    assert_ends_as_before(run, old.version, kind)
    assert len(json.loads((run / "manifest.json").read_text())["sessions"]) == 2


@each_version
def test_the_old_command_finds_its_run_and_continues_its_records(commands: CommandRunner, old: Old) -> None:
    """The run keeps its directory name, metrics.jsonl and W&B run, which has a file of each of the two versions."""
    run = old.run(seed=2)
    before = metrics_lines(run)
    done(commands, f"train.py {old.here(old.facts['runs'])} outputs={old.place}/runs seed=2")
    assert result(run)["step"] == 72 and metrics_lines(run)[: len(before)] == before
    assert [line["step"] for line in metrics_lines(run)] == sorted({line["step"] for line in metrics_lines(run)})
    assert_ends_as_before(run, old.version, "stopped")
    text = done(commands, f"sync_wandb.py {run} --dry-run").out
    assert re.search(r"would be sent: .*: 36 rows up to step 72, of 2 fragment\(s\)", text), text


@each_version
def test_an_old_finished_run_is_not_changed(commands: CommandRunner, old: Old) -> None:
    kept = {path: path.read_bytes() for path in old.run(seed=0).rglob("*") if path.is_file() and path.name != ".lock"}
    answer = done(commands, f"train.py {old.here(old.facts['runs'])} outputs={old.place}/runs seed=0")
    assert "is already finished (step 72): nothing to do" in answer.out + answer.err
    assert kept == {path: path.read_bytes() for path in kept}


@pytest.mark.parametrize(("old", "run"), RUNS, indirect=["old"])
def test_old_weights_are_evaluated_and_exported_as_before(commands: CommandRunner, old: Old, run: str) -> None:
    answers, source, target = old.answers[run], old.place / "runs" / "paper" / run, old.place / "weights.safetensors"
    for name, data in (("evaluate", ""), ("evaluate from the raw pack", f"data.pack={old.place}/pack-raw")):
        text = done(commands, f"evaluate.py {source} --json data.root={old.place}/images {data}").out
        found = json.loads(text.splitlines()[-1])
        assert {key: found[key] for key in answers[name]} == pytest.approx(answers[name], rel=1e-4)
    line = done(commands, f"export.py {source} {target}").out
    assert eval_of(line.strip().splitlines()[-1]) == eval_of(answers["export"].strip())
    save_file(load_file(target), target)  # removes the metadata that later versions add
    assert hashlib.sha256(target.read_bytes()).hexdigest() == answers["exported"]


def eval_of(line: str) -> dict[str, Any]:
    """Return the arguments of a printed timm.create_model call; of the checkpoint's path only the name."""
    arguments: dict[str, Any] = eval(line.replace("timm.create_model(", "dict(model="), {})
    return arguments | {"checkpoint_path": Path(arguments["checkpoint_path"]).name}


@each_version
def test_old_runs_are_compared_as_before(commands: CommandRunner, old: Old) -> None:
    expected = list(csv.DictReader(io.StringIO(old.answers["compare"])))
    done(commands, f"compare.py {old.place}/runs --out {old.place}/compared")
    found = list(csv.DictReader(io.StringIO((old.place / "compared" / "table.csv").read_text())))
    assert len(found) == len(expected)
    for row, then in zip(found, expected, strict=True):
        # Intervals of zero width are not compared: they are reported differently now.
        names = [key.removesuffix("_low") for key in then if key.endswith("_low")]
        points = [name for name in names if then[f"{name}_low"] and then[f"{name}_low"] == then[f"{name}_high"]]
        told = then.keys() - {f"{name}_{end}" for name in points for end in ("low", "high")}
        assert {key: row[key] for key in told} == {key: then[key] for key in told}


@each_version
def test_old_offline_wandb_runs_are_merged_as_before(commands: CommandRunner, old: Old) -> None:
    def told(text: str) -> list[str]:
        return sorted(re.findall(r"\(W&B run \w+\): \d+ rows up to step \d+, of \d+ fragment", text))

    expected = told(old.answers["sync"])
    assert expected and told(done(commands, f"sync_wandb.py {old.place}/runs --dry-run").out) == expected


@pytest.mark.parametrize("pack", ["pack-jpeg", "pack-raw"])
@each_version
def test_an_old_pack_is_checked_and_used_for_training(commands: CommandRunner, old: Old, pack: str) -> None:
    place, command = old.place / pack, f"train.py {old.here(old.facts['runs'])} logger=none trainer.steps=2"
    data = old.here([override for override in old.facts["runs"] if override.startswith("data")])
    files = {path: path.read_bytes() for path in place.rglob("*.tar")}
    assert "all checksums are correct" in done(commands, f"pack.py {place} --check").out
    again = f"pack.py {place} {data}" + (" --format raw" if pack == "pack-raw" else "")
    answer = commands.run(again, {})
    assert "is already complete" in answer.out or "train.py can use it as it is. To make a new pack" in answer.err
    assert files == {path: path.read_bytes() for path in files}
    done(commands, f"{command} data.pack={place} run_dir={old.place}/packed")
    if pack == "pack-raw":  # the raw pack holds exactly the images' pixels
        done(commands, f"{command} run_dir={old.place}/folders")
        packed, folders = (weights_of(old.place / name) for name in ("packed", "folders"))
        assert all(torch.equal(tensor, folders[key]) for key, tensor in packed.items())


@each_version
def test_an_old_checkpoint_initializes_a_run(commands: CommandRunner, old: Old) -> None:
    source = old.place / "checkpoints" / "gd"
    overrides = f"{old.here(old.facts['checkpoints']['adamw'])} model.init_from={source} trainer.steps=1"
    answer = done(commands, f"train.py {overrides} run_dir={old.place}/new")
    assert f"Weights from {source}/checkpoints/last.pt" in answer.out + answer.err


@pytest.mark.parametrize("split", ["train", "val"])
@each_version
def test_an_old_cached_index_is_correct_or_replaced(old: Old, split: str) -> None:
    folder = old.place / "images" / split
    found = read_index(folder)
    cache_files(folder)[0].unlink()
    fresh = read_index(folder)
    assert len(fresh) == {"train": 24, "val": 8}[split]
    for name in (field.name for field in fields(fresh)):
        assert np.array_equal(getattr(found, name), getattr(fresh, name)), name
