"""How a comparison marks tuned groups, and its notes about tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.run_directories import MakeRun

from ranger21.report.runs.finding import find_runs
from ranger21.report.tables import table
from ranger21.report.write import examine, write_report

CHOSEN = {"tuning__trials": 16, "tuning__record": "0123abcd"}
CAUTION = "No run records that it was tuned: other learning rates may change this order."
ADVANTAGE = "more trials are an advantage"


def comparison(place: Path) -> Any:
    (only,) = examine([str(place / "outputs")]).comparisons
    return only


def labels(place: Path) -> list[str]:
    return [group.label for group in comparison(place).groups]


def five(make_run: MakeRun, optimizer: str, top1: float, **settings: Any) -> None:
    """Write five runs with fresh seeds whose final top-1 varies around a mean."""
    mark = "-".join(map(str, settings.values())).replace("/", "_")
    for seed in range(5):
        above = 0.1 * (seed if optimizer == "adamw" else 3 * seed % 5)  # so differences of equal seeds vary
        make_run(optimizer, 100 + seed, (50.0, top1 + above), name=f"{optimizer}-{mark}-s{seed}", **settings)


def test_tuned_and_untuned_groups_are_marked_in_their_labels(make_run: MakeRun, tmp_path: Path) -> None:
    """The chosen values are in the notes, not in the labels."""
    for optimizer, lr, top1 in (("adamw", 1e-2, 70.0), ("ranger21", 2e-2, 72.0)):
        five(make_run, optimizer, top1 - 5)
        five(
            make_run, optimizer, top1, optimizer__lr=lr, schedule__name="cosine", schedule__linear_warmup="5%", **CHOSEN
        )
    assert labels(tmp_path) == [
        "adamw (tuned, 16 trials)",
        "adamw (untuned)",
        "ranger21 (tuned, 16 trials)",
        "ranger21 (untuned)",
    ]
    rows = comparison(tmp_path).rows
    note_lines = table.notes(rows)
    chosen = "optimizer.lr=0.02 (untuned: 0.003), schedule.linear_warmup=5% (untuned: unset), schedule.name=cosine"
    assert f"ranger21 (tuned, 16 trials): {chosen} (untuned: constant)." in note_lines
    assert CAUTION not in note_lines and ADVANTAGE not in " ".join(note_lines)
    assert [note for note in note_lines if note.startswith("Other settings")] == [
        "Other settings that differ between these groups: optimizer.lr (ranger21 0.003; adamw 0.001)."
    ]
    better = "ranger21 (tuned, 16 trials) is better than adamw (untuned) by 7.00 points"
    assert better in " ".join(table.sentences(rows))
    write_report(examine([str(tmp_path / "outputs")]), tmp_path / "out")
    for name in ("table.md", "table.csv", "pairs.csv", "index.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "adamw (untuned)" in text and "ranger21 (tuned, 16 trials)" in text, name


def test_two_tuned_groups_of_one_optimizer_have_different_labels(make_run: MakeRun, tmp_path: Path) -> None:
    five(make_run, "adamw", 60.0)
    five(make_run, "adamw", 70.0, optimizer__lr=0.01, **CHOSEN)
    five(make_run, "adamw", 71.0, optimizer__lr=0.02, **CHOSEN)
    five(make_run, "adamw", 72.0, optimizer__lr=0.03, tuning__trials=1)
    assert labels(tmp_path) == [
        "adamw (tuned, 1 trial)",
        "adamw (untuned)",
        "adamw lr=0.01 (tuned, 16 trials)",
        "adamw lr=0.02 (tuned, 16 trials)",
    ]


@pytest.mark.parametrize(("trials", "how"), [(0, "untuned"), (4, "tuned, 4 trials")])
def test_different_numbers_of_trials_are_reported(make_run: MakeRun, tmp_path: Path, trials: int, how: str) -> None:
    make_run("adamw", 0, tuning__trials=trials)
    make_run("nesterov", 0, **CHOSEN)
    counts = f"(adamw: {how}; nesterov: tuned, 16 trials)"
    assert f"The optimizers were not all tuned with the same number of trials {counts}: {ADVANTAGE}." in table.notes(
        comparison(tmp_path).rows
    )


def test_a_winner_with_default_values_shares_the_untuned_group(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", 0)
    make_run("adamw", 1, **CHOSEN)
    assert labels(tmp_path) == ["adamw (untuned and tuned, 16 trials)"]


def test_the_note_of_a_single_tuned_group_has_all_chosen_values(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("nesterov", 0, optimizer__lr=0.03, **CHOSEN)
    assert labels(tmp_path) == ["nesterov (tuned, 16 trials)"]
    wanted = "nesterov (tuned, 16 trials): optimizer.lr=0.03, optimizer.momentum=0.9, optimizer.name=nesterov, "
    assert f"{wanted}schedule.name=constant." in table.notes(comparison(tmp_path).rows)


def test_untuned_groups_have_plain_labels_and_a_note(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", 0)
    make_run("adamw", 1, optimizer__lr=0.5)
    make_run("ranger21", 0, tuning__trials=0)
    assert labels(tmp_path) == ["adamw lr=0.001", "adamw lr=0.5", "ranger21"]
    assert table.notes(comparison(tmp_path).rows).count(CAUTION) == 1


@pytest.mark.parametrize("value", [True, "16", -3, 2**31, 1.5, [16], None])
def test_an_invalid_number_of_trials_is_ignored(value: Any, make_run: MakeRun, tmp_path: Path) -> None:
    """The records of others may contain anything."""
    path = make_run("adamw", 0)
    config = OmegaConf.to_container(OmegaConf.load(path / "config.yaml"))
    (path / "config.yaml").write_text(json.dumps(config | {"tuning": {"trials": value}}))
    assert len(find_runs([str(tmp_path)]).runs) == 1
    assert labels(tmp_path) == ["adamw"]
