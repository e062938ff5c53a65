"""`continue_from` begins a new run with the final state of a finished one, and refuses what does not fit."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from support.training import (
    TINY,
    assert_same_state,
    last_checkpoint,
    metrics_lines,
    metrics_without_speed,
    result,
    run_ranks,
)

from ranger21.config.compose import compose_config
from ranger21.records.naming import run_directory
from ranger21.run import experiment
from ranger21.system.errors import UserError

SETTINGS = ["optimizer=ranger21", "schedule=constant", "trainer.ema=0.6", "trainer.log_every_steps=1"]
SETTINGS += ["trainer.eval_every_steps=4", "trainer.checkpoint_every_steps=2"]


@pytest.fixture(scope="module")
def settings(images: Path) -> list[str]:
    return [*TINY, f"data.root={images}", *SETTINGS]


@pytest.fixture(scope="module")
def parent(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 4 steps."""
    place = tmp_path_factory.mktemp("runs") / "parent"
    assert experiment.run(compose_config([*settings, "trainer.steps=4"]), place) == 0
    return place


def test_with_a_constant_rate_it_equals_one_long_run(settings: list[str], parent: Path, tmp_path: Path) -> None:
    """Weights, their average and the optimizer's state are the same bit for bit, also if it is killed and resumed."""
    before = {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()}
    assert experiment.run(compose_config([*settings, "trainer.steps=8"]), tmp_path / "long") == 0
    overrides = [*settings, "trainer.steps=8", f"continue_from={parent}"]
    assert experiment.run(compose_config(overrides), tmp_path / "whole") == 0
    long, whole = last_checkpoint(tmp_path / "long"), last_checkpoint(tmp_path / "whole")
    whole["progress"]["best"] = long["progress"]["best"]  # it knows nothing of validations before its beginning
    assert_same_state(whole, long)
    lines = {line["step"]: line for line in metrics_without_speed(tmp_path / "long")}
    first, *rest = metrics_without_speed(tmp_path / "whole")
    assert rest == [lines[step] for step in (5, 6, 7, 8)]
    assert first["step"] == 4 and first["val_ema/acc1"] == lines[4]["val_ema/acc1"] and "train/loss" not in first
    assert run_ranks(overrides, tmp_path / "killed", 1, die_at=7, when="before") == [-signal.SIGKILL]
    assert run_ranks(overrides, tmp_path / "killed", 1) == [0]
    assert_same_state(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "whole"))
    assert metrics_without_speed(tmp_path / "killed") == metrics_without_speed(tmp_path / "whole")
    assert {path: path.read_bytes() for path in before} == before
    recorded = json.loads((tmp_path / "killed" / "manifest.json").read_text())
    assert recorded["parent"] == json.loads((tmp_path / "whole" / "manifest.json").read_text())["parent"]
    theirs = json.loads((parent / "manifest.json").read_text())
    assert (recorded["parent"]["path"], recorded["parent"]["id"]) == (str(parent), theirs["id"])
    assert recorded["parent"]["step"] == 4 and recorded["id"] != theirs["id"]
    assert [len(recorded["parent"][key]) for key in ("config", "checkpoint")] == [16, 16]


def test_the_schedule_is_that_of_the_whole_length(settings: list[str], parent: Path, tmp_path: Path) -> None:
    """Other schedules, lengths and validations are allowed, and two ranks continue a run of one."""
    overrides = [*settings, f"continue_from={parent}", "schedule=cosine", "trainer.steps=null", "trainer.epochs=2"]
    assert run_ranks([*overrides, "trainer.eval_every_steps=null"], tmp_path / "run", 2) == [0, 0]
    factors = [(1 + torch.cos(torch.tensor(torch.pi * step / 10))).item() / 2 for step in range(5, 11)]
    lines = metrics_lines(tmp_path / "run")
    assert [line["lr"] for line in lines if line["step"] > 4] == pytest.approx([3e-3 * f for f in factors], abs=1e-9)
    assert result(tmp_path / "run")["total_steps"] == 10
    assert "which ended at step 4 with learning rate 0.003; the next one is 0.00" in (tmp_path / "run.out").read_text()


REFUSED = {
    "the same length": (["trainer.steps=4"], "it ended at step 4, and the new run has 4 steps in total. Raise"),
    "another optimizer": (["optimizer=adamw"], "the two runs differ (optimizer.agc_clipping: "),
    "another rate": (["optimizer.lr=0.1"], "the two runs differ (optimizer.lr: 0.003 there, 0.1 now). Only the"),
    "another model": (["model.remove_batch_norm=true"], "the two runs differ (model.remove_batch_norm: "),
    "another batch": (["data.batch_size=8"], "the two runs differ (data.batch_size: 16 there, 8 now)"),
    "no average": (["trainer.ema=null"], "the two runs differ (trainer.ema: 0.6 there, None now)"),
    "another seed": (["seed=1"], "the two runs differ (seed: 0 there, 1 now)"),
}


@pytest.mark.parametrize(("extra", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(
    extra: list[str], sentence: str, settings: list[str], parent: Path, tmp_path: Path
) -> None:
    config = compose_config([*settings, "trainer.steps=8", f"continue_from={parent}", *extra])
    with pytest.raises(UserError) as caught:
        experiment.run(config, tmp_path / "run")
    assert f"continue_from={parent} cannot be used: " in str(caught.value) and sentence in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_parent_that_cannot_be_continued_is_refused(
    settings: list[str], parent: Path, images: Path, tmp_path: Path
) -> None:
    def refusal(run: Path, place: Path = tmp_path / "run", *extra: str) -> str:
        with pytest.raises(UserError) as caught:
            experiment.run(compose_config([*settings, "trainer.steps=8", f"continue_from={run}", *extra]), place)
        return str(caught.value)

    copy = Path(shutil.copytree(parent, tmp_path / "copy"))
    assert "is not the directory of a run" in refusal(tmp_path / "none")
    assert "a run cannot continue itself" in refusal(tmp_path / "new", tmp_path / "new")
    other = Path(shutil.copytree(images, tmp_path / "other"))
    next((other / "train").rglob("*.*")).unlink()
    assert "The images are not those that" in refusal(copy, tmp_path / "run", f"data.root={other}")
    found = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps(found | {"step": 3}))
    assert "last.pt is of step 4, but the run ended at step 3" in refusal(copy)
    (copy / "result.json").write_text(json.dumps(found | {"status": "diverged"}))
    assert "only a finished run can be continued, and it is diverged" in refusal(copy)
    (copy / "result.json").unlink()
    assert "and it has no result.json. Finish it first" in refusal(copy)
    (copy / "result.json").write_text(json.dumps(found))
    (copy / "checkpoints" / "last.pt").unlink()
    assert "last.pt is missing" in refusal(copy)
    assert not (tmp_path / "run").exists()


def test_it_is_part_of_a_runs_identity(settings: list[str]) -> None:
    names = {run_directory(compose_config([*settings, *more])).name for more in ([], ["continue_from=/runs/a"])}
    assert len(names) == 2
