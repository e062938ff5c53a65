"""The running statistics that validations use: those of rank 0, their mean over the ranks, or recomputed ones."""

from __future__ import annotations

import signal
from collections.abc import Iterator
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
from torch import Tensor
from torch.optim.swa_utils import update_bn

from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.engine.batch_norm import statistics
from ranger21.models.build import build_model
from ranger21.models.evaluated import Request
from ranger21.models.scoring import score
from ranger21.records.checkpoint_file import AVERAGE
from ranger21.run import experiment
from ranger21.run.build import Parts, build_loader, build_parts, build_state
from ranger21.run.statistics import first_step, recompute
from ranger21.system.distributed import join
from ranger21.system.errors import UserError

KILLED = ["trainer.steps=7", "trainer.eval_every_steps=3", "trainer.log_every_steps=1", "optimizer=adamw"]
SHORT = [*KILLED, "trainer.steps=3", "trainer.ema=0.5"]
NO_DROPOUT = [word.replace(",drop_rate:0.2", "") for word in TINY]


def weights(directory: Path) -> dict[str, Tensor]:
    return {k: v for k, v in last_checkpoint(directory)["model"].items() if "running" not in k and "tracked" not in k}


def assert_same_weights(one: Path, other: Path) -> None:
    there = weights(other)
    assert all(torch.equal(tensor, there[name]) for name, tensor in weights(one).items())


def test_the_mean_over_the_ranks_is_that_of_the_whole_batch(images: Path, tmp_path: Path) -> None:
    """After one step, the first batch norm's running mean is that of one rank with all images."""
    overrides = [*TINY, f"data.root={images}", *SHORT, "trainer.steps=1"]
    assert experiment.run(compose_config(overrides), tmp_path / "one") == 0
    for name, more in (("first", []), ("mean", ["trainer.batch_norm=mean"])):
        assert run_ranks([*overrides, *more], tmp_path / name, 2) == [0, 0]
    assert_same_weights(tmp_path / "first", tmp_path / "mean")
    for key in ("model", AVERAGE):
        one, first, mean = (
            last_checkpoint(tmp_path / n)[key]["conv1.1.running_mean"] for n in ("one", "first", "mean")
        )
        torch.testing.assert_close(mean, one)
        assert not torch.allclose(first, one)


@pytest.fixture(scope="module")
def parts(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    config = compose_config([*NO_DROPOUT, f"data.root={images}", *SHORT])
    with join("cpu", tmp_path_factory.mktemp("join")) as world:
        yield build_parts(config, world, build_data(config.data, config.seed_of_data))


def last_inputs(parts: Parts, first: int) -> list[Tensor]:
    """Return the inputs of the run's steps from `first` on."""
    found = []
    for batch in build_loader(parts, first):
        assert batch is not None
        found.append(parts.to_input(*batch.to(parts.world.device)[:2], torch.float32, parts.memory_format))
    return found


def test_recomputed_statistics_are_those_of_the_last_images(parts: Parts, images: Path, tmp_path: Path) -> None:
    """They equal torch's update_bn, for the weights and for their average, and training is the same without them."""
    overrides = [*NO_DROPOUT, f"data.root={images}", *SHORT]
    for name, more in (("plain", []), ("recomputed", ["trainer.batch_norm_images=20"])):
        assert experiment.run(compose_config([*overrides, *more]), tmp_path / name) == 0
    assert_same_weights(tmp_path / "plain", tmp_path / "recomputed")
    lines = [metrics_lines(tmp_path / name) for name in ("plain", "recomputed")]
    assert [line["train/loss"] for line in lines[0]] == [line["train/loss"] for line in lines[1]]
    inputs, state = last_inputs(parts, 2), last_checkpoint(tmp_path / "recomputed")  # 2 batches of 16, for 20 images
    for key in ("model", AVERAGE):
        model = build_model(parts.config.model, 10, 3)
        model.load_state_dict(state[key])
        stored = [tensor.clone() for tensor in statistics(model)]
        update_bn(inputs, model)
        torch.testing.assert_close(statistics(model), stored)
    scored = score(Request(str(tmp_path / "recomputed" / "checkpoints" / "last.pt"), raw=True))
    assert scored is not None
    assert scored[0]["val/loss"] == pytest.approx(result(tmp_path / "recomputed")["final"]["val/loss"], rel=1e-5)


def test_an_interrupted_recomputation_changes_nothing(parts: Parts) -> None:
    state, _ = build_state(parts)
    before = [buffer.clone() for buffer in state.model.buffers()]
    answers = iter([False, True])
    assert recompute(parts, state.model, 3, 48, lambda: next(answers)) is False
    assert all(torch.equal(*pair) for pair in zip(before, state.model.buffers(), strict=True))
    assert recompute(parts, state.model, 3, 48, lambda: False) is True
    assert not all(torch.equal(*pair) for pair in zip(before, state.model.buffers(), strict=True))
    course = parts.plan.course
    assert [first_step(course, 3, images) for images in (1, 16, 17, 48, 1000)] == [3, 3, 2, 1, 1]


@pytest.mark.parametrize(
    "extra",
    [
        ["trainer.batch_norm=mean", "trainer.layer_decay=0.7", "trainer.grad_checkpointing=true"],
        ["trainer.batch_norm_images=20", "trainer.on_nonfinite=skip", "trainer.accumulate=2"],
    ],
)
def test_a_killed_run_on_two_ranks_resumes_exactly(extra: list[str], images: Path, tmp_path: Path) -> None:
    """The average of the weights is kept, too."""
    overrides = [*TINY, f"data.root={images}", *KILLED, "trainer.ema=0.6", "trainer.checkpoint_every_steps=2", *extra]
    assert run_ranks(overrides, tmp_path / "whole", 2) == [0, 0]
    assert run_ranks(overrides, tmp_path / "killed", 2, die_at=6, when="after")[-1] == -signal.SIGKILL
    assert run_ranks(overrides, tmp_path / "killed", 2) == [0, 0]
    assert "Resumed at step" in (tmp_path / "killed" / "log.txt").read_text()
    assert_same_state(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "whole"))
    assert metrics_without_speed(tmp_path / "killed") == metrics_without_speed(tmp_path / "whole")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["trainer.batch_norm=sync"], "cannot be used on cpu, because torch's SyncBatchNorm needs CUDA"),
        (["trainer.batch_norm=mean", "model.remove_batch_norm=true"], "=mean would have no effect, because model"),
        (["trainer.batch_norm_images=9", "model.remove_batch_norm=true"], "would have no effect, because model"),
        (["trainer.batch_norm_images=9", "trainer.batch_norm=mean"], "would have no effect, because with"),
    ],
)  # fmt: skip
def test_what_would_have_no_effect_is_refused(
    overrides: list[str], sentence: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        experiment.run(compose_config([*TINY, f"data.root={images}", *overrides]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
