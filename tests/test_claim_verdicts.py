"""Verdicts on the paper's claims that are easy to get wrong, for runs with known values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.claims import CHANCE, NO_NORM, PAPER, SMALL, our_values, rising_run, statuses, write_both, write_run

HOLDS, FAILS, UNDECIDED = "holds at this scale", "fails at this scale", "cannot tell"


def ends_at(*values: float) -> Any:
    """Return a function of the seed: the top-1 of a single validation."""
    return lambda seed: ([values[seed]],)


def with_losses(*losses: Sequence[float]) -> Any:
    """Return a function of the seed: its own validation losses."""
    return lambda seed: ([50.0 + seed] * len(losses[seed]), losses[seed])


# C1, C2, C3: top-1


@pytest.mark.parametrize(
    ("top1", "status"),
    [
        ((60.0, 73.7, 87.4), UNDECIDED),  # the mean equals the paper's, but the interval is 39.67 to 107.73
        ((73.5, 73.7, 73.9), UNDECIDED),  # the interval is 73.20 to 74.20, up to 0.51 points above
        ((73.6, 73.7, 73.8), "reproduced"),
        ((74.9, 75.0, 75.1), "contradicted"),
        ((74.0, 74.7, 75.4), UNDECIDED),  # the mean is outside, the interval is not entirely
    ],
)
def test_a_figure_is_judged_by_its_whole_interval(tmp_path: Path, top1: tuple[float, ...], status: str) -> None:
    write_both(tmp_path, PAPER, ends_at(*top1), ends_at(*(value - 2.61 for value in top1)))
    found = statuses(tmp_path)
    assert (found["C1"], found["C2"]) == (status, status)


@pytest.mark.parametrize(
    ("gaps", "direction", "size"),
    [
        ((2.5, 2.6, 2.7), "reproduced", "reproduced"),
        ((4.9, 5.0, 5.1), "reproduced", "contradicted"),
        ((0.9, 1.0, 1.1), "reproduced", "contradicted"),
        ((2.0, 2.6, 3.2), "reproduced", UNDECIDED),
        ((-2.0, 2.6, 7.2), UNDECIDED, UNDECIDED),
        ((-1.1, -1.0, -0.9), "contradicted", "contradicted"),
    ],
)
def test_c3_is_judged_by_direction_and_by_size(
    tmp_path: Path, gaps: tuple[float, ...], direction: str, size: str
) -> None:
    write_both(tmp_path, PAPER, ends_at(*(71.0 + gap for gap in gaps)), ends_at(71.0, 71.0, 71.0))
    found = statuses(tmp_path)
    assert (found["C3a"], found["C3b"]) == (direction, size)


@pytest.mark.parametrize(("loser", "direction"), [("ranger21", UNDECIDED), ("adamw", "reproduced")])
def test_c3_counts_a_diverged_run_as_the_worst(tmp_path: Path, loser: str, direction: str) -> None:
    """One of five runs of `loser` diverged: this weakens Ranger21's case if it is Ranger21's, and AdamW's otherwise."""
    write_both(tmp_path, PAPER, ends_at(73.5, 73.6, 73.7, 73.8), ends_at(73.1, 73.1, 73.1, 73.2), seeds=4)
    other = "adamw" if loser == "ranger21" else "ranger21"
    write_run(tmp_path / "lost", [*PAPER, f"optimizer={loser}", "seed=4"], [0.1], status="diverged")
    write_run(tmp_path / "kept", [*PAPER, f"optimizer={other}", "seed=4"], [73.1])
    found = statuses(tmp_path)
    assert (found["C3a"], found["C3b"]) == (direction, UNDECIDED)


# C4: the same loss later


def test_c4_is_contradicted_if_adamws_loss_is_lower_from_the_first_validation(tmp_path: Path) -> None:
    """The runs have four validations as in results/fashion_mnist, of which the first counts as early."""
    mine = [[0.90 + 0.01 * seed, 0.8, 0.7, 0.6] for seed in range(5)]
    theirs = [[0.80 - 0.02 * seed, 0.8, 0.7, 0.6] for seed in range(5)]
    write_both(tmp_path / "below", SMALL, with_losses(*mine), with_losses(*theirs), seeds=5)
    assert statuses(tmp_path / "below")["C4a"] == FAILS
    assert "AdamW's is not higher in 5 of 5 seeds" in our_values(tmp_path / "below")["C4a"]
    write_both(tmp_path / "above", SMALL, with_losses(*theirs), with_losses(*mine), seeds=5)
    assert statuses(tmp_path / "above")["C4a"] == HOLDS
    mixed = [[0.9 + 0.2 * (-1) ** seed, 0.8, 0.7, 0.6] for seed in range(5)]
    write_both(tmp_path / "mixed", SMALL, with_losses(*mine), with_losses(*mixed), seeds=5)
    assert statuses(tmp_path / "mixed")["C4a"] == UNDECIDED


def test_c4_is_undecided_if_the_first_validation_is_late(tmp_path: Path) -> None:
    losses = [[1.0 + 0.1 * seed, 0.5] for seed in range(3)]
    write_both(tmp_path, SMALL, with_losses(*losses), with_losses(*[[x + 1 for x in one] for one in losses]))
    assert (statuses(tmp_path)["C4a"], our_values(tmp_path)["C4a"]) == (
        UNDECIDED,
        "the first validation is too late to judge this",
    )


def test_c4_is_undecided_if_adamw_reached_the_loss_before_ranger21(tmp_path: Path) -> None:
    """AdamW's loss dips below the threshold at epoch 5, and is above it again at epoch 10."""
    mine = [[2.0] * 9 + [1.0 + 0.01 * seed] + [0.9] * 50 for seed in range(3)]
    theirs = [[2.0] * 4 + [0.8] + [2.0] * 4 + [1.5 + 0.02 * seed] + [0.9] * 50 for seed in range(3)]
    write_both(tmp_path, PAPER, with_losses(*mine), with_losses(*theirs))
    assert statuses(tmp_path)["C4a"] == UNDECIDED


@pytest.mark.parametrize(
    ("epochs", "size"),
    [
        ((34, 35, 36), "reproduced"),
        ((20, 35, 50), UNDECIDED),
        ((14, 15, 16), "contradicted"),
        ((61, 61, 61), "contradicted"),
    ],
)
def test_c4_distinguishes_later_from_as_late_as_in_the_paper(
    tmp_path: Path, epochs: tuple[int, ...], size: str
) -> None:
    """Any epoch after Ranger21's confirms the direction (C4a), but only the paper's the size (C4b); 61 means never."""
    mine = [[2.0] * 9 + [1.0 + 0.01 * seed] + [0.9] * 50 for seed in range(3)]
    theirs = [[2.0 + 0.1 * seed] * (epoch - 1) + [0.5] * (61 - epoch) for seed, epoch in enumerate(epochs)]
    write_both(tmp_path, PAPER, with_losses(*mine), with_losses(*theirs))
    found = statuses(tmp_path)
    assert (found["C4a"], found["C4b"]) == ("reproduced", size)


# C5: smoothness


def test_c5_is_undecided_for_curves_with_few_validations(tmp_path: Path) -> None:
    smooth = [[1.0 + 0.001 * seed] * 4 for seed in range(5)]
    rough = [[1.0, 2.0 + 0.1 * seed, 1.0, 2.0] for seed in range(5)]
    write_both(tmp_path / "4", SMALL, with_losses(*smooth), with_losses(*rough), seeds=5)
    assert statuses(tmp_path / "4")["C5"] == UNDECIDED
    assert "4 validations per run, but at least 10 are needed to judge this" in our_values(tmp_path / "4")["C5"]
    noise = np.random.default_rng(0).normal(0, 0.1, (5, 12))
    curves = [with_losses(*[list(np.exp(size * row)) for row in noise]) for size in (0.2, 1.0)]
    write_both(tmp_path / "12", SMALL, *curves, seeds=5)
    assert statuses(tmp_path / "12")["C5"] == HOLDS


# C6, C7: at chance, trains, still rises


@pytest.mark.parametrize(
    ("stuck", "seeds", "c6", "c7a"),
    [
        (3, 3, "too few seeds", "too few seeds"),  # three of three happens by chance in one case of eight
        (5, 5, "reproduced", "contradicted"),
        (0, 5, "contradicted", "reproduced"),
        (4, 5, UNDECIDED, UNDECIDED),
        (1, 5, UNDECIDED, UNDECIDED),
        (1, 8, "contradicted", UNDECIDED),
    ],
)
def test_claims_about_all_runs_need_enough_seeds_and_no_exception(
    tmp_path: Path, stuck: int, seeds: int, c6: str, c7a: str
) -> None:
    """`stuck` seeds of both optimizers stay at chance. C6 claims this of AdamW, and C7 denies it of Ranger21."""

    def runs(seed: int) -> tuple[list[float]]:
        return (CHANCE if seed < stuck else [1.0, 40.0, 60.0],)

    write_both(tmp_path, NO_NORM, runs, runs, seeds=seeds)
    found = statuses(tmp_path)
    assert (found["C6"], found["C7a"]) == (c6, c7a)


def test_a_repeated_seed_counts_once_and_a_diverged_run_has_not_trained(tmp_path: Path) -> None:
    write_both(tmp_path, NO_NORM, lambda seed: ([1.0, 40.0, 60.0],), lambda seed: (CHANCE,), seeds=5)
    write_run(tmp_path / "again", [*NO_NORM, "optimizer=adamw", "seed=0"], CHANCE)
    write_run(tmp_path / "d", [*NO_NORM, "optimizer=adamw", "seed=7"], [], status="diverged")
    assert our_values(tmp_path)["C6"] == "6 of 6 seeds at chance, 1 of them diverged"
    assert statuses(tmp_path)["C6"] == "reproduced"
    write_run(tmp_path / "e", [*NO_NORM, "optimizer=ranger21", "seed=8"], [1.0, 40.0], status="diverged")
    assert our_values(tmp_path)["C7a"] == "5 of 6 seeds trained"
    assert statuses(tmp_path)["C7a"] == UNDECIDED


def test_chance_depends_on_the_number_of_classes(tmp_path: Path) -> None:
    recipe = ("data=fashion_mnist", *NO_NORM)
    write_both(tmp_path, recipe, lambda seed: ([10.5, 60.0],), lambda seed: ([10.9],), seeds=5, classes=10)
    found = statuses(tmp_path)
    assert (found["C6"], found["C7a"]) == (HOLDS, HOLDS)


def test_a_run_at_chance_stays_there_however_often_it_is_validated(tmp_path: Path) -> None:
    """The highest of 200 validations on 300 images exceeds chance by three standard errors through luck."""
    highest = 10 + 3.4 * 100 * (0.1 * 0.9 / 300) ** 0.5
    curve = [10.0] * 199 + [highest]
    write_both(tmp_path, NO_NORM, lambda seed: (curve,), lambda seed: (curve,), seeds=5, classes=10, val_images=300)
    assert statuses(tmp_path)["C6"] == HOLDS


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (lambda seed: np.linspace(59, 60 + 0.1 * seed, 12), HOLDS),
        (lambda seed: np.linspace(60 + 0.1 * seed, 59, 12), FAILS),
        (lambda seed: 60 + np.resize([0.1 * seed, -0.1 * seed], 12) + (seed % 2) * np.linspace(0, 0.3, 12), UNDECIDED),
    ],
    ids=["rising", "falling", "level"],
)
def test_c7_tests_the_slope_at_the_end(tmp_path: Path, last: Any, status: str) -> None:
    def trains(seed: int) -> tuple[list[float]]:
        return ([*np.linspace(5, 59, 36), *last(seed)],)

    recipe = ("data=fashion_mnist", *NO_NORM)
    write_both(tmp_path, recipe, trains, lambda seed: ([10.0],), seeds=5, classes=10)
    assert statuses(tmp_path)["C7b"] == status


def test_c7_is_undecided_with_two_validations(tmp_path: Path) -> None:
    """The last of two validations is nearly always the best, whichever optimizer is used."""
    recipe = ("data=fashion_mnist", *NO_NORM)
    write_both(tmp_path, recipe, lambda seed: ([40.0, 60.0],), lambda seed: ([10.0, 10.0],), seeds=5, classes=10)
    assert statuses(tmp_path)["C7b"] == UNDECIDED
    assert our_values(tmp_path)["C7b"] == "2 validations per run, but at least 10 are needed to judge this"


def test_different_figures_contradict_the_claims(tmp_path: Path) -> None:
    def early(seed: int) -> tuple[list[float], list[float]]:
        top1, loss = rising_run(74.0, 0.5)(seed)
        return top1, [value * (1 + 0.01 * seed) for value in loss]

    write_both(tmp_path, PAPER, rising_run(70.0), early)
    found = statuses(tmp_path)
    assert {found[claim] for claim in ("C1", "C2", "C3a", "C3b", "C4a", "C4b")} == {"contradicted"}
