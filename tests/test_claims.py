"""The verdicts on the paper's claims, the quantities behind them, and the ablation, for runs with known values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.claims import (
    CHANCE,
    NO_NORM,
    PAPER,
    SMALL,
    only_comparison,
    our_values,
    rising_run,
    statuses,
    write_both,
    write_run,
)

from ranger21.report.ablation import ALONE, GIVEN, LADDER, contributions, write_ablation
from ranger21.report.claims.claims import claim_results
from ranger21.report.claims.figures import catching_up, leaves_chance, reached, roughness
from ranger21.report.claims.page import markdown
from ranger21.report.figures.gallery import write_gallery
from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.runs.finding import find_runs
from ranger21.report.runs.run import RecordedRun


def test_runs_with_the_papers_figures_reproduce_the_claims(tmp_path: Path) -> None:
    def late(seed: int) -> tuple[list[float], list[float]]:  # AdamW reaches the loss of epoch 10 at epoch 35
        top1, loss = rising_run(71.0, 1.0)(seed)
        return top1, [value * (35 / 10) ** 0.5 * (1 + 0.02 * (-1) ** i) for i, value in enumerate(loss)]

    write_both(tmp_path, PAPER, rising_run(73.6), late)
    assert statuses(tmp_path) == dict.fromkeys(("C1", "C2", "C3a", "C3b", "C4a", "C4b", "C5"), "reproduced")
    text = markdown([only_comparison(tmp_path)])
    assert "| 2.61 points | 2.60 points" in text
    assert text.count("**not run**") == 3  # C6, C7a, C7b
    drawn = write_gallery(only_comparison(tmp_path), tmp_path)
    assert {"figure2_curves", "catching_up"} < {path.stem for path in drawn}


def test_two_seeds_are_too_few_for_any_verdict(tmp_path: Path) -> None:
    write_both(tmp_path, PAPER, rising_run(73.6), rising_run(71.0), seeds=2)
    assert set(statuses(tmp_path).values()) == {"too few seeds"}


def test_runs_at_a_reduced_scale_never_count_as_reproduced(tmp_path: Path) -> None:
    write_both(tmp_path / "a", SMALL, rising_run(90.0), rising_run(80.0))
    assert statuses(tmp_path / "a")["C3a"] == "holds at this scale"
    write_both(tmp_path / "b", SMALL, rising_run(80.0), rising_run(90.0))
    assert statuses(tmp_path / "b")["C3a"] == "fails at this scale"
    write_both(tmp_path / "c", SMALL, rising_run(80.0), lambda seed: rising_run(80.0 + (-1) ** seed)(seed))
    assert statuses(tmp_path / "c")["C3a"] == "cannot tell"
    text = markdown([only_comparison(tmp_path / "a")])
    assert "reproduced**" not in text
    assert "footnote 6" in text


def held_out(place: Path) -> None:
    """Give runs a holdout on which they are 10 points better than on the official set."""
    for path in place.glob("*/metrics.jsonl"):
        rows = [json.loads(line.replace("val/", "holdout/")) for line in path.open()]
        rows[-1]["val/acc1"] = rows[-1]["holdout/acc1"] - 10
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_c3_compares_the_last_and_best_top1_on_the_same_images(tmp_path: Path) -> None:
    recipe = (*SMALL, "data.holdout=5000")
    write_both(tmp_path, recipe, rising_run(82.0), rising_run(80.0), holdout_images=5000)
    held_out(tmp_path)
    assert statuses(tmp_path)["C3a"] == "holds at this scale"
    assert our_values(tmp_path)["C3a"].startswith("2.00 points (95 % interval ")
    assert "both on the holdout" in our_values(tmp_path)["C3a"]


def test_a_holdout_is_not_compared_with_the_official_set(tmp_path: Path) -> None:
    for name, top1, holdout in (("ranger21", 90.0, 5000), ("adamw", 80.0, 0)):
        for seed in range(3):
            overrides = [*SMALL, f"optimizer={name}", f"seed={seed}", f"data.holdout={holdout}"]
            write_run(tmp_path / ("held" if holdout else "plain") / f"{name}{seed}", overrides, *rising_run(top1)(seed))
    held_out(tmp_path / "held")
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path)]).runs, ["data.holdout"])
    said = {finding.claim: (finding.status, finding.ours) for finding in claim_results(comparison)}
    assert {said[claim][0] for claim in ("C3a", "C4a", "C5")} == {"cannot tell"}
    assert "not comparable" in said["C3a"][1]


@pytest.mark.parametrize("change", ["trainer.epochs=59", "data.batch_size=128", "data.fraction=0.5", "model=resnet50d"])
def test_a_different_recipe_is_not_the_papers_scale(tmp_path: Path, change: str) -> None:
    write_both(tmp_path, (*PAPER, change), rising_run(73.6), rising_run(71.0))
    assert set(statuses(tmp_path).values()) <= {"holds at this scale", "fails at this scale", "cannot tell"}


@pytest.mark.parametrize(
    "change", ["optimizer.pnm=false", "optimizer.lr=1e-3", "optimizer.weight_decay=0.5", "schedule=constant"]
)
def test_runs_of_ranger21_with_other_settings_are_not_counted(tmp_path: Path, change: str) -> None:
    write_both(tmp_path, PAPER, rising_run(73.6), rising_run(71.0))
    for seed in range(3):
        overrides = [*PAPER, "optimizer=ranger21", change, f"seed={seed}"]
        write_run(tmp_path / str(seed), overrides, *rising_run(10.0)(seed))
    assert statuses(tmp_path)["C1"] == "reproduced"  # the runs with other settings are not counted


@pytest.mark.parametrize("counts", [{"train_images": 100_000}, {"classes": 100}])
def test_other_images_or_classes_are_not_the_papers_scale(tmp_path: Path, counts: dict[str, int]) -> None:
    write_both(tmp_path, PAPER, rising_run(73.6), rising_run(71.0), **counts)
    assert "C1" not in statuses(tmp_path)


def test_three_runs_with_one_seed_count_as_one_seed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_both(tmp_path / name, PAPER, rising_run(73.6), rising_run(71.0), seeds=1)
    assert set(statuses(tmp_path).values()) == {"too few seeds"}


def test_diverged_runs_are_mentioned_and_many_leave_a_claim_undecided(tmp_path: Path) -> None:
    write_both(tmp_path, PAPER, rising_run(73.6), rising_run(71.0))
    for seed in (7, 8):
        write_run(tmp_path / f"d{seed}", [*PAPER, "optimizer=ranger21", f"seed={seed}"], [0.1], status="diverged")
    assert our_values(tmp_path)["C1"].endswith("; diverged runs (2 of 5) count as chance")
    found = statuses(tmp_path)
    assert (found["C1"], found["C2"], found["C3a"], found["C4a"]) == ("cannot tell", "reproduced", *["cannot tell"] * 2)


# The quantities


def run_with(tmp_path: Path, loss: Sequence[float], seed: int = 0) -> RecordedRun:
    path = write_run(tmp_path / f"{len(list(tmp_path.iterdir()))}", [*SMALL, f"seed={seed}"], [1.0] * len(loss), loss)
    (run,) = find_runs([str(path)]).runs
    return run


def test_roughness_is_measured_on_the_logarithm_of_the_loss(tmp_path: Path) -> None:
    straight = run_with(tmp_path, [8.0, 4.0, 2.0, 1.0])
    assert roughness(straight) == pytest.approx(0.0, abs=1e-12)
    bent = run_with(tmp_path, [8.0, 4.0, 4.0, 1.0])
    assert roughness(bent) == pytest.approx(np.mean([np.log(2), np.log(4)]))
    scaled = run_with(tmp_path, [80.0, 40.0, 40.0, 10.0])
    assert roughness(scaled) == pytest.approx(roughness(bent))
    assert roughness(run_with(tmp_path, [8.0, 4.0])) is None


def test_the_epoch_of_reaching_a_loss_is_interpolated(tmp_path: Path) -> None:
    run = run_with(tmp_path, [4.0, 2.0, 3.0])  # at epochs 20, 40, 60
    assert reached(run, 3.0) == pytest.approx(30.0)
    assert reached(run, 5.0) == 20.0
    assert reached(run, 1.9) is None


def test_catching_up_pairs_runs_by_seed_and_counts_seeds_that_never_catch_up(tmp_path: Path) -> None:
    leaders = [run_with(tmp_path, [3.0] * 6, seed=0), run_with(tmp_path, [0.5] * 6, seed=1)]
    followers = [run_with(tmp_path, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0], seed=seed) for seed in (0, 1)]
    assert catching_up(leaders, followers) == ({}, 0)  # no validation comes before the early point
    leaders = [run_with(tmp_path, [3.0] * 12, seed=0), run_with(tmp_path, [0.5] * 12, seed=1)]
    falling = [7.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.0, 1.9, 1.8, 1.7, 1.6, 1.5]
    followers = [run_with(tmp_path, falling, seed=seed) for seed in (0, 1, 2)]  # seed 2 has no leader
    assert catching_up(leaders, followers) == ({0: (1 / 6, 0.5), 1: (1 / 6, 1.0)}, 1)


def test_catching_up_averages_over_the_runs_of_a_seed(tmp_path: Path) -> None:
    leaders = [run_with(tmp_path, [loss] * 12) for loss in (3.0, 0.5, 0.5)]
    falling = [7.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.0, 1.9, 1.8, 1.7, 1.6, 1.5]
    followers = [run_with(tmp_path, losses) for losses in (falling, [3.0] * 12)]
    found, never = catching_up(leaders, followers)
    assert found == {0: (pytest.approx(1 / 6), pytest.approx((1 / 2 + 1 / 12 + 4) / 6))}
    assert never == 1
    silent = run_with(tmp_path, [])
    assert catching_up(leaders, [silent]) == catching_up([silent], followers) == ({}, 0)


def test_the_range_of_chance_is_wider_for_small_validation_sets(tmp_path: Path) -> None:
    few = write_run(tmp_path / "few", NO_NORM, [13.0] * 3, classes=10, val_images=300)
    many = write_run(tmp_path / "many", NO_NORM, [13.0] * 3, classes=10, val_images=10_000)
    assert [leaves_chance(run) for run in find_runs([str(few), str(many)]).runs] == [False, True]


def test_a_run_is_not_called_at_chance_in_its_first_epochs(tmp_path: Path) -> None:
    for epochs in (5, 15):
        path = write_run(tmp_path / str(epochs), NO_NORM, CHANCE, status="running")
        rows = [{"step": e, "epoch": e, "val/acc1": 0.1} for e in range(1, epochs + 1)]
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    early, late = find_runs([str(tmp_path / "15"), str(tmp_path / "5")]).runs[::-1]
    assert (leaves_chance(early), leaves_chance(late)) == (None, False)


def test_without_a_manifest_the_dataset_determines_the_number_of_classes(tmp_path: Path) -> None:
    write_both(tmp_path, NO_NORM, lambda seed: ([1.0, 40.0, 60.0],), lambda seed: (CHANCE,), seeds=5)
    for path in tmp_path.glob("*/manifest.json"):
        path.unlink()
    found = statuses(tmp_path)
    assert (found["C6"], found["C7a"]) == ("holds at this scale", "holds at this scale")


# The ablation


def test_contributions_equal_the_known_effect_of_each_ingredient(tmp_path: Path) -> None:
    """Each ingredient adds a fixed number of points, so its contribution is the same in every comparison."""
    worth = dict(
        zip(("schedule", "agc", "centralize", "pnm", "stable_decay", "norm_loss", "lookahead"), range(7), strict=True)
    )
    ladder = ["0_adamw", "1_schedule", "2_agc", "3_centralize", "4_pnm", "5_stable_decay", "6_norm_loss", "7_lookahead"]
    made = {name: sum(list(worth.values())[:index]) for index, name in enumerate(ladder)}
    made |= {f"minus_{n}": 21 - worth[n] for n in list(worth)[:-1]} | {f"only_{n}": worth[n] for n in list(worth)[1:]}
    for name, value in made.items():
        for seed in range(3):
            overrides = [*SMALL, "experiment=ablation", f"ablation={name}", f"seed={seed}"]
            write_run(tmp_path / "runs" / f"{name}{seed}", overrides, [50.0 + value + 0.01 * seed])
    comparison = only_comparison(tmp_path / "runs")
    found = {(c.ingredient, c.company): c.difference.mean for c in contributions(comparison)}
    assert found == {
        (name, company): pytest.approx(worth[name]) for name in worth for company in (ALONE, LADDER, GIVEN)
    }
    (tmp_path / "out" / comparison.slug).mkdir(parents=True)
    written = write_ablation([comparison], tmp_path / "out")
    assert [path.name for path in written] == ["ablation.md", "ablation.png", "ablation.svg"]
    told = written[0].read_text()
    assert "| pnm | +3.00" in told and told.count(": equivalent (within 0.5, p = ") == 3  # schedule: 0 points
