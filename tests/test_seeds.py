"""Each seed changes only its own part of a run; runs are paired by both seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.run_directories import MakeRun
from support.training import TINY, assert_same_state, last_checkpoint, metrics_without_speed, run_ranks

from ranger21.config.compose import compose_config
from ranger21.data.build import build_data
from ranger21.records.naming import run_directory
from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.groups.summary import top1_pairs
from ranger21.report.runs.finding import find_runs
from ranger21.report.tables.table import notes
from ranger21.run.build import build_loader, build_parts, build_setup, build_state
from ranger21.run.numerics import computing
from ranger21.system import randomness
from ranger21.system.distributed import join
from ranger21.system.errors import UserError

Start = Callable[..., tuple[Any, ...]]


@pytest.fixture
def start(images: Path, tmp_path: Path) -> Start:
    """Return what a run starts with: weights, pixels, numbers for the device, labels, and the dropout seed."""

    def begin(*overrides: str) -> tuple[Any, ...]:
        config = compose_config([*TINY, f"data.root={images}", *overrides])
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        with computing(config.trainer), join("cpu", place) as world:
            parts = build_parts(config, world, build_data(config.data, config.seed_of_data))
            state, _ = build_state(parts)
            setup = build_setup(parts, state, iter(build_loader(parts, 1)))
            batch = next(setup.batches)
            setup.batches.close()
        first = torch.cat([tensor.flatten() for tensor in state.model.state_dict().values()])
        noise = randomness.seed(randomness.NOISE, setup.seed, 1, 0)
        return first, batch.images, batch.rest, batch.labels, torch.tensor(noise % 2**62)

    return begin


def equal_parts(one: tuple[Any, ...], other: tuple[Any, ...]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]


def test_each_seed_changes_only_its_own_part(start: Start) -> None:
    zero, five = start("seed=0"), start("seed=5")
    assert equal_parts(zero, five) == [False] * 5
    assert equal_parts(zero, start("init_seed=5")) == [False, True, True, True, True]
    assert equal_parts(zero, start("data_seed=5")) == [True, False, False, False, False]
    assert all(equal_parts(five, start("init_seed=5", "data_seed=5"))) and all(
        equal_parts(five, start("seed=5", "init_seed=5"))
    )


def test_data_seed_sets_the_ranks_of_imbalanced_classes(images: Path) -> None:
    def kept(*overrides: str) -> list[str]:
        config = compose_config([*TINY, f"data.root={images}", "data.imbalance=1", *overrides])
        return list(build_data(config.data, config.seed_of_data).kept or {})

    assert kept() == kept("init_seed=5") != kept("data_seed=5") == kept("seed=5")


def test_runs_that_differ_in_a_seed_are_different_runs() -> None:
    several = ([], ["init_seed=0"], ["data_seed=1"], ["init_seed=1"], ["seed=1"], ["seed=1", "init_seed=0"])
    configs = [compose_config([*TINY, "data.root=/d", *more]) for more in several]
    assert len({run_directory(config) for config in configs}) == len(several)
    assert [config.seeds for config in configs] == ["0", "0", "0/1", "1/0", "1", "0/1"]
    for override in ("init_seed=-1", "data_seed=1.5", "init_seed=True"):
        with pytest.raises(UserError, match=f"^{override} is invalid: it must be a"):
            compose_config([override])


def test_a_killed_run_with_init_and_data_seeds_resumes_exactly(tiny: list[str], tmp_path: Path) -> None:
    """A validation interval in steps does not change this."""
    rest = [*tiny, "init_seed=3", "data_seed=4", "trainer.eval_every_steps=7", "trainer.checkpoint_every_steps=null"]
    assert run_ranks(rest, tmp_path / "whole", 1) == [0]
    for at in (8, 15):
        assert run_ranks(rest, tmp_path / "killed", 1, die_at=at, when="after") == [-9]
    assert run_ranks(rest, tmp_path / "killed", 1) == [0]
    assert_same_state(last_checkpoint(tmp_path / "killed"), last_checkpoint(tmp_path / "whole"))
    assert metrics_without_speed(tmp_path / "killed") == metrics_without_speed(tmp_path / "whole")
    validated = [line["step"] for line in metrics_without_speed(tmp_path / "whole") if "val/acc1" in line]
    assert validated == [7, 14, 20]  # instead of 5, 10, 15, 20
    by_epoch = [word for word in rest if "eval_every" not in word]
    assert run_ranks(by_epoch, tmp_path / "epochs", 1) == [0]
    one, other = last_checkpoint(tmp_path / "whole"), last_checkpoint(tmp_path / "epochs")
    assert all(torch.equal(tensor, other["model"][name]) for name, tensor in one["model"].items())


def test_runs_are_paired_by_both_seeds(make_run: MakeRun, tmp_path: Path) -> None:
    """Runs that share only one of the two seeds are not a pair; earlier versions paired by `seed` alone."""
    for number in range(4):
        make_run("adamw", number, (40.0, 60.0 + number), init_seed=0)  # 0, 0/1, 0/2, 0/3
        make_run("ranger21", number, (40.0, 70.0 + number))  # 0, 1, 2, 3
        make_run("nesterov", 9, (40.0, 50.0 + number), name=f"n{number}", init_seed=0, data_seed=number)
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path)]).runs)
    assert [[run.seed for run in group.runs] for group in comparison.groups] == [
        [0, "0/1", "0/2", "0/3"], [0, "0/1", "0/2", "0/3"], [0, 1, 2, 3]
    ]  # fmt: skip
    assert {(pair.a, pair.b): pair.difference.paired for pair in top1_pairs(comparison.rows)} == {
        ("ranger21", "adamw"): False, ("ranger21", "nesterov"): False, ("adamw", "nesterov"): True
    }  # fmt: skip
    seed_notes = [note for note in notes(comparison.rows) if "so their spread is" in note]
    assert seed_notes == [
        f"{label}: all runs share init_seed 0, so their spread is due to the order and augmentation of the data alone."
        for label in ("adamw", "nesterov")
    ]
