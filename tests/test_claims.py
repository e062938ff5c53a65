"""The paper's claims, judged on run directories with known values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from ranger21.compose import compose_config
from ranger21.records import to_dict
from ranger21.report.ablation import ALONE, GIVEN, LADDER, contributions, write_ablation
from ranger21.report.claim_figures import catching_up, leaves_chance, reached, roughness
from ranger21.report.claims import findings
from ranger21.report.claims_page import markdown
from ranger21.report.comparisons import Comparison, compare_like_with_like
from ranger21.report.gallery import write_gallery
from ranger21.report.runs import Run, find_runs

PAPER = ("model=resnet50",)
NO_NORM = ("model=resnet50_nobn",)
SMALL = ("data=fashion_mnist", "model=resnet10t")
EPOCHS = 60


def write_run(
    path: Path, overrides: Sequence[str], top1: Sequence[float], loss: Sequence[float] = (), classes: int = 1000,
    status: str = "finished", **counts: int,
) -> Path:  # fmt: skip
    """A run of the real configuration whose validations are evenly spread over 60 epochs."""
    path.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(to_dict(compose_config(list(overrides)))), path / "config.yaml")
    data = {"fingerprint": "f", "classes": classes, "train_images": 1_281_167, "val_images": 50_000, **counts}
    (path / "manifest.json").write_text(json.dumps({"data": data}))
    rows: list[dict[str, Any]] = []
    for index, value in enumerate(top1, start=1):
        rows.append({"step": index * 10, "epoch": EPOCHS * index / len(top1), "val/acc1": value})
        if loss:
            rows[-1]["val/loss_smoothed"] = loss[index - 1]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if status != "running":
        (path / "result.json").write_text(json.dumps({"status": status}))
    return path


def pair(path: Path, recipe: Sequence[str], ranger21: Any, adamw: Any, seeds: int = 3, **more: Any) -> None:
    """Runs of both contestants: `ranger21(seed)` and `adamw(seed)` are (accuracies, losses)."""
    for name, values in (("ranger21", ranger21), ("adamw", adamw)):
        for seed in range(seeds):
            overrides = [*recipe, f"optimizer={name}", f"seed={seed}"]
            write_run(path / f"{name}{seed}", overrides, *values(seed), **more)


def only(path: Path) -> Comparison:
    (comparison,) = compare_like_with_like(find_runs([str(path)]).runs)
    return comparison


def statuses(path: Path) -> dict[str, str]:
    return {finding.claim[:2]: finding.status for finding in findings(only(path))}


def papers(top1: float, loss: float = 1.0) -> Any:
    """A run that rises to its top-1 at the end, its loss falling like 1 / epoch to `loss` at epoch 60."""
    epochs = np.arange(1, EPOCHS + 1)

    def curve(seed: int) -> tuple[list[float], list[float]]:
        best = top1 + 0.1 * seed
        return [best * (1 - np.exp(-epoch / 10)) + best * np.exp(-6) * (epoch == 60) for epoch in epochs], [
            loss * (60 / epoch) ** 0.5 + 0.001 * seed for epoch in epochs
        ]

    return curve


def test_the_papers_own_figures_are_reproduced(tmp_path: Path) -> None:
    def late(seed: int) -> tuple[list[float], list[float]]:  # AdamW reaches the loss of epoch 10 at epoch 35
        top1, loss = papers(71.0, 1.0)(seed)
        return top1, [value * (35 / 10) ** 0.5 * (1 + 0.02 * (-1) ** i) for i, value in enumerate(loss)]

    pair(tmp_path, PAPER, papers(73.6), late)
    assert statuses(tmp_path) == dict.fromkeys(("C1", "C2", "C3", "C4", "C5"), "reproduced")
    text = markdown([only(tmp_path)])
    assert "| 2.61 points | 2.60 points" in text
    assert text.count("**not run**") == 2  # C6 and C7
    drawn = write_gallery(only(tmp_path), tmp_path)
    assert {"figure2_curves", "catching_up"} < {path.stem for path in drawn}


def test_other_figures_contradict(tmp_path: Path) -> None:
    pair(tmp_path, PAPER, papers(70.0), papers(74.0))
    found = statuses(tmp_path)
    assert [found[claim] for claim in ("C1", "C2", "C3", "C4")] == ["contradicted"] * 4


def test_two_seeds_conclude_nothing(tmp_path: Path) -> None:
    pair(tmp_path, PAPER, papers(73.6), papers(71.0), seeds=2)
    assert set(statuses(tmp_path).values()) == {"too few seeds"}


def test_a_mean_outside_with_an_interval_inside_is_undecided(tmp_path: Path) -> None:
    pair(tmp_path, PAPER, lambda seed: ([74.0 + 0.7 * seed],), papers(71.0))
    assert statuses(tmp_path)["C1"] == "cannot tell"


def test_a_reduced_scale_never_says_reproduced(tmp_path: Path) -> None:
    pair(tmp_path / "a", SMALL, papers(90.0), papers(80.0))
    assert statuses(tmp_path / "a")["C3"] == "holds at this scale"
    pair(tmp_path / "b", SMALL, papers(80.0), papers(90.0))
    assert statuses(tmp_path / "b")["C3"] == "fails at this scale"
    pair(tmp_path / "c", SMALL, papers(80.0), lambda seed: papers(80.0 + (-1) ** seed)(seed))
    assert statuses(tmp_path / "c")["C3"] == "cannot tell"
    text = markdown([only(tmp_path / "a")])
    assert "reproduced**" not in text
    assert "footnote 6" in text


@pytest.mark.parametrize("change", ["trainer.epochs=59", "data.batch_size=128", "data.fraction=0.5", "model=resnet50d"])
def test_another_recipe_is_not_the_papers_scale(tmp_path: Path, change: str) -> None:
    pair(tmp_path, (*PAPER, change), papers(73.6), papers(71.0))
    assert set(statuses(tmp_path).values()) <= {"holds at this scale", "fails at this scale", "cannot tell"}


@pytest.mark.parametrize(
    "change", ["optimizer.pnm=false", "optimizer.lr=1e-3", "optimizer.weight_decay=0.5", "schedule=constant"]
)
def test_another_ranger21_is_not_the_papers(tmp_path: Path, change: str) -> None:
    pair(tmp_path, PAPER, papers(73.6), papers(71.0))
    for seed in range(3):
        overrides = [*PAPER, "optimizer=ranger21", change, f"seed={seed}"]
        write_run(tmp_path / str(seed), overrides, *papers(10.0)(seed))
    assert statuses(tmp_path)["C1"] == "reproduced"  # the others are not counted


@pytest.mark.parametrize("counts", [{"train_images": 100_000}, {"classes": 100}])
def test_other_images_are_not_the_papers_scale(tmp_path: Path, counts: dict[str, int]) -> None:
    pair(tmp_path, PAPER, papers(73.6), papers(71.0), **counts)
    assert "C1" not in statuses(tmp_path)


def test_one_seed_run_thrice_is_one_seed(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        pair(tmp_path / name, PAPER, papers(73.6), papers(71.0), seeds=1)
    assert set(statuses(tmp_path).values()) == {"too few seeds"}


def test_diverged_runs_are_told_and_many_leave_it_undecided(tmp_path: Path) -> None:
    pair(tmp_path, PAPER, papers(73.6), papers(71.0))
    for seed in (7, 8):
        write_run(tmp_path / f"d{seed}", [*PAPER, "optimizer=ranger21", f"seed={seed}"], [0.1], status="diverged")
    found = {finding.claim: finding for finding in findings(only(tmp_path))}
    assert found["C1"].ours.endswith("; 2 of 5 runs diverged and are left out")
    assert (found["C1"].status, found["C2"].status) == ("cannot tell", "reproduced")


CHANCE = [0.1, 0.12, 0.1]


def test_adamw_at_chance_and_ranger21_training(tmp_path: Path) -> None:
    pair(tmp_path, NO_NORM, lambda seed: ([1.0, 40.0, 60.0],), lambda seed: (CHANCE,))
    assert statuses(tmp_path) == {"C6": "reproduced", "C7": "reproduced"}
    # One that escapes makes it undecided, one that diverged before any validation was at chance too.
    write_run(tmp_path / "d", [*NO_NORM, "optimizer=adamw", "seed=7"], [], status="diverged")
    assert statuses(tmp_path)["C6"] == "reproduced"
    write_run(tmp_path / "e", [*NO_NORM, "optimizer=adamw", "seed=8"], [0.1, 5.0, 9.0])
    assert statuses(tmp_path)["C6"] == "cannot tell"


def test_adamw_training_contradicts(tmp_path: Path) -> None:
    pair(tmp_path, NO_NORM, lambda seed: (CHANCE,), lambda seed: ([5.0, 40.0, 30.0],))
    assert statuses(tmp_path) == {"C6": "contradicted", "C7": "contradicted"}


def test_chance_is_that_of_the_classes(tmp_path: Path) -> None:
    pair(tmp_path, ("data=fashion_mnist", *NO_NORM), lambda seed: ([10.5, 60.0],), lambda seed: ([10.9],), classes=10)
    assert statuses(tmp_path) == {"C6": "holds at this scale", "C7": "holds at this scale"}


# The numbers


def run_with(tmp_path: Path, loss: Sequence[float], seed: int = 0) -> Run:
    path = write_run(tmp_path / f"{len(list(tmp_path.iterdir()))}", [*SMALL, f"seed={seed}"], [1.0] * len(loss), loss)
    (run,) = find_runs([str(path)]).runs
    return run


def test_roughness_is_of_the_logarithm(tmp_path: Path) -> None:
    straight = run_with(tmp_path, [8.0, 4.0, 2.0, 1.0])
    assert roughness(straight) == pytest.approx(0.0, abs=1e-12)
    bent = run_with(tmp_path, [8.0, 4.0, 4.0, 1.0])
    assert roughness(bent) == pytest.approx(np.mean([np.log(2), np.log(4)]))
    scaled = run_with(tmp_path, [80.0, 40.0, 40.0, 10.0])
    assert roughness(scaled) == pytest.approx(roughness(bent))
    assert roughness(run_with(tmp_path, [8.0, 4.0])) is None


def test_a_loss_is_reached_between_validations(tmp_path: Path) -> None:
    run = run_with(tmp_path, [4.0, 2.0, 3.0])  # at epochs 20, 40, 60
    assert reached(run, 3.0) == pytest.approx(30.0)
    assert reached(run, 5.0) == 20.0
    assert reached(run, 1.9) is None


def test_catching_up_pairs_seeds_and_counts_those_that_never_do(tmp_path: Path) -> None:
    leaders = [run_with(tmp_path, [3.0] * 6, seed=0), run_with(tmp_path, [0.5] * 6, seed=1)]
    followers = [run_with(tmp_path, [6.0, 5.0, 4.0, 3.0, 2.0, 1.0], seed=seed) for seed in (0, 1)]
    assert catching_up(leaders, followers) == ({}, 0)  # a sixth is the first validation: nothing is earlier
    leaders = [run_with(tmp_path, [3.0] * 12, seed=0), run_with(tmp_path, [0.5] * 12, seed=1)]
    falling = [7.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.0, 1.9, 1.8, 1.7, 1.6, 1.5]
    followers = [run_with(tmp_path, falling, seed=seed) for seed in (0, 1, 2)]  # seed 2 has no leader
    assert catching_up(leaders, followers) == ({0: (1 / 6, 0.5), 1: (1 / 6, 1.0)}, 1)


def test_catching_up_of_a_seed_run_more_than_once_is_the_mean_and_counts_once(tmp_path: Path) -> None:
    leaders = [run_with(tmp_path, [loss] * 12) for loss in (3.0, 0.5, 0.5)]
    falling = [7.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.0, 1.9, 1.8, 1.7, 1.6, 1.5]
    followers = [run_with(tmp_path, losses) for losses in (falling, [3.0] * 12)]
    found, never = catching_up(leaders, followers)
    assert found == {0: (pytest.approx(1 / 6), pytest.approx((1 / 2 + 1 / 12 + 4) / 6))}
    assert never == 1
    silent = run_with(tmp_path, [])
    assert catching_up(leaders, [silent]) == catching_up([silent], followers) == ({}, 0)


def test_chance_is_as_wide_as_the_validation_set_is_small(tmp_path: Path) -> None:
    few = write_run(tmp_path / "few", NO_NORM, [13.0] * 3, classes=10, val_images=300)
    many = write_run(tmp_path / "many", NO_NORM, [13.0] * 3, classes=10, val_images=10_000)
    assert [leaves_chance(run) for run in find_runs([str(few), str(many)]).runs] == [False, True]


def test_a_run_that_has_hardly_begun_is_not_at_chance(tmp_path: Path) -> None:
    for epochs in (5, 15):
        path = write_run(tmp_path / str(epochs), NO_NORM, CHANCE, status="running")
        rows = [{"step": e, "epoch": e, "val/acc1": 0.1} for e in range(1, epochs + 1)]
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    early, late = find_runs([str(tmp_path / "15"), str(tmp_path / "5")]).runs[::-1]
    assert (leaves_chance(early), leaves_chance(late)) == (None, False)


def test_without_a_manifest_the_classes_are_those_of_the_data_set(tmp_path: Path) -> None:
    pair(tmp_path, NO_NORM, lambda seed: ([1.0, 40.0, 60.0],), lambda seed: (CHANCE,))
    for path in tmp_path.glob("*/manifest.json"):
        path.unlink()
    assert statuses(tmp_path) == {"C6": "holds at this scale", "C7": "holds at this scale"}


# The ablation


def test_contributions_are_known_differences(tmp_path: Path) -> None:
    """Each ingredient adds its own number of points, so alone, on the ladder and given the others agree."""
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
    comparison = only(tmp_path / "runs")
    found = {(c.ingredient, c.company): c.difference.mean for c in contributions(comparison)}
    assert found == {
        (name, company): pytest.approx(worth[name]) for name in worth for company in (ALONE, LADDER, GIVEN)
    }
    (tmp_path / "out" / comparison.slug).mkdir(parents=True)
    written = write_ablation([comparison], tmp_path / "out")
    assert [path.name for path in written] == ["ablation.md", "ablation.png", "ablation.svg"]
    assert "| pnm | +3.00" in written[0].read_text()
