"""Runs on one machine: which GPU each has. The runs are real processes, which end at once with an error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun
from ranger21.grid.local import Local, visible_gpus

SAID = re.compile(r"seed=(\S*)x is invalid")
DEVICE = "seed=${oc.env:CUDA_VISIBLE_DEVICES,none}x"  # the error message then names the process's GPU


def seen(place: Path, gpus: list[str], runs: int, *overrides: str) -> list[str]:
    """Return the GPU that each run sees, three at a time, sorted."""
    config = compose_config(list(overrides))
    jobs = [PlannedRun((DEVICE, *overrides), config, place / str(number)) for number in range(runs)]
    assert len(Local(3, lambda job, code: None, gpus).run(jobs)) == runs
    return sorted(SAID.findall("".join((job.directory / "launcher.txt").read_text() for job in jobs)))


def test_runs_have_different_gpus_and_share_them_evenly_if_there_are_too_few(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert seen(tmp_path / "shared", visible_gpus(2), 3) == ["2", "2", "5"]
    told = "3 runs at a time share 2 GPUs (2, 5), so some are slower: --at-once 2 gives each run its own."
    assert caplog.messages == [told]
    assert seen(tmp_path / "cpu", visible_gpus(2), 1, "trainer.device=cpu") == ["2,5"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert seen(tmp_path / "without", visible_gpus(0), 1) == ["none"]
    assert caplog.messages == [told]


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("3, 1", 2, ["3", "1"]),
        ("1,9", 1, ["1"]),  # there is no GPU 9
        ("", 0, []),
        ("-1", 0, []),
        ("GPU-5a,GPU-b1", 2, ["GPU-5a", "GPU-b1"]),
        ("MIG-5a,MIG-b1", 1, ["MIG-5a", "MIG-b1"]),  # a process sees only one
    ],
)
def test_gpus_are_those_that_the_environment_leaves(visible: str | None, count: int, names: list[str]) -> None:
    assert visible_gpus(count, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == names
