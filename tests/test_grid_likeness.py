"""Whether the runs that a grid finds are the planned ones, and of the same code."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.training import TINY

from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun
from ranger21.grid.likeness import other_code, require_same_runs
from ranger21.grid.record import record, records
from ranger21.grid.slurm import Slurm
from ranger21.records.naming import run_directory
from ranger21.report.runs.record_file import entries, first_line, write
from ranger21.run import experiment
from ranger21.system.errors import UserError


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, images: Path) -> tuple[PlannedRun, Path]:
    """A finished run, as planned by a grid, and its images."""
    outputs = tmp_path_factory.mktemp("ended")
    overrides = (*TINY, f"data.root={images}", "trainer.steps=2", f"outputs={outputs}")
    config = compose_config(list(overrides))
    job = PlannedRun(overrides, config, run_directory(config))
    assert experiment.run(config, job.directory) == 0
    return job, images


def test_finished_runs_with_other_settings_or_images_are_refused(
    ended: tuple[PlannedRun, Path], tmp_path: Path
) -> None:
    job, images = ended
    assert job.ended and require_same_runs([job]) == [] and other_code([job]) is None
    other = replace(job, config=replace(job.config, seed=7))
    with pytest.raises(UserError, match=r"has another run \(seed: 0 there, 7 now\)"):
        require_same_runs([other])
    data = shutil.copytree(images, tmp_path / "data")
    moved = replace(job, config=replace(job.config, data=replace(job.config.data, root=str(data))))
    assert require_same_runs([moved]) == []
    image = next(data.glob("train/*/*"))
    image.rename(image.with_name("another.JPEG"))
    with pytest.raises(
        UserError, match=rf"used different images .* data.root={images} .* then, data.root={data} .* now"
    ):
        require_same_runs([moved])
    in_place = replace(moved, directory=shutil.copytree(job.directory, tmp_path / "in-place"))
    manifest = json.loads((in_place.directory / "manifest.json").read_text())
    manifest["data"]["root"] = str(data)
    (in_place.directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="used different images"):  # although the folder is the same
        require_same_runs([in_place])
    shutil.rmtree(data)
    (doubt,) = require_same_runs([moved])
    assert doubt.startswith("Cannot check whether the runs that have ended used these images: There is no folder")


def test_finished_runs_of_other_code_are_reported(ended: tuple[PlannedRun, Path], tmp_path: Path) -> None:
    job, _ = ended
    old = replace(job, directory=shutil.copytree(job.directory, tmp_path / "old"))
    manifest = json.loads((old.directory / "manifest.json").read_text())
    for files in manifest["code"].values():
        files["ranger21/engine/loop.py"] = "0" * 16
    (old.directory / "manifest.json").write_text(json.dumps(manifest))
    told = other_code([job, old, old])
    assert told is not None and "by different code: 2 (ranger21/engine/loop.py)." in told


def test_a_record_of_another_run_is_not_overwritten(ended: tuple[PlannedRun, Path], tmp_path: Path) -> None:
    job, _ = ended
    file = tmp_path / "runs.jsonl.gz"
    assert record(records([job]), file) == record(records([job]), file) == 1
    (entry,) = entries(file)
    assert not isinstance(entry, str)
    kept = entry.parts["manifest"]
    assert "root" not in kept["data"] and kept["sessions"][0]["code"] in kept["code"]
    kept["sessions"][0]["started"] = "2026-01-01T00:00:00+00:00"
    write(file, [(entry.name, [first_line(entry.name, entry.parts)])])
    with pytest.raises(
        UserError, match=rf"has the record of another run with the name {entry.name}, started 2026-01-01"
    ):
        record(records([job]), file)


def test_a_list_of_runs_is_never_overwritten(tmp_path: Path) -> None:
    """A new list's number follows the largest one, not their count, because queued tasks may still read an old list."""
    slurm = Slurm(tmp_path, [], [])
    for number in (2, 7):
        (tmp_path / f"runs-{number}.txt").write_text("")
    assert slurm.plan([], 1, ["x"]).runs.name == "runs-8.txt"
