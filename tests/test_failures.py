"""A run that diverges is a result: recorded runs of which some failed, compared by the report's own code."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
from support.run_directories import MakeRun
from support.tuning import make_tuned

from ranger21.report.ablation import contributions
from ranger21.report.ablation import markdown as ablation_markdown
from ranger21.report.groups.comparisons import GroupComparison
from ranger21.report.groups.failures import failed, loss_of_failed, top1_of_failed, top5_of_failed
from ranger21.report.groups.summary import loss_pairs, top1_pairs
from ranger21.report.runs.finding import find_runs, read_run
from ranger21.report.runs.run import RecordedRun
from ranger21.report.tables.table import markdown, notes, sentences
from ranger21.report.write import examine, write_report
from ranger21.tuning.page import markdown as tuning_markdown
from ranger21.tuning.results import tunings

ADAMW = (75.02, 74.98, 75.01, 74.99, 75.0)
NESTEROV = (75.7, 75.72, 75.68, 75.71, 75.69)


def read(path: Path) -> RecordedRun:
    run = read_run(path)
    assert isinstance(run, RecordedRun), run
    return run


# Which runs failed, and what they count as


@pytest.mark.parametrize("value", ["NaN", "null", "Infinity", "1e300"])
@pytest.mark.parametrize("key", ["val/loss", "val/acc1", "holdout/loss"])
def test_a_finished_run_with_a_last_validation_that_is_not_finite_failed(
    make_run: MakeRun, key: str, value: str
) -> None:
    run = read(make_run(tail=f'{{"step": 30, "epoch": 3.0, "val/acc5": 61.0, "{key}": {value}}}\n'))
    assert failed(run)
    assert run.notes == (f"{key} is not finite at its last validation (step 30): counted as diverged",)


def test_only_the_last_validation_makes_a_run_a_failure(make_run: MakeRun) -> None:
    recovered = make_run(
        seed=1, tail='{"step": 25, "val/loss": NaN}\n{"step": 30, "val/acc1": 60.0, "val/loss": 4.0}\n'
    )
    mended = make_run(seed=2, tail='{"step": 20, "val/loss": NaN}\n{"step": 20, "val/loss": 4.0}\n')
    training = make_run(seed=3, tail='{"step": 30, "train/loss": NaN}\n')
    running = make_run(seed=4, status="running", tail='{"step": 30, "val/loss": null}\n')
    assert [(failed(run), run.notes) for run in map(read, (recovered, mended, training))] == [(False, ())] * 3
    assert not failed(read(running))


def test_a_failed_run_counts_as_chance(make_run: MakeRun) -> None:
    path = make_run(status="diverged")
    assert (top1_of_failed(read(path)), top5_of_failed(read(path)), loss_of_failed(read(path))) == (0.0, 0.0, None)
    (path / "manifest.json").write_text(json.dumps({"data": {"classes": 8}}))
    run = read(path)
    assert (top1_of_failed(run), top5_of_failed(run), loss_of_failed(run)) == (12.5, 62.5, pytest.approx(math.log(8)))
    (path / "manifest.json").write_text(json.dumps({"data": {"classes": 3}}))
    assert top5_of_failed(read(path)) == 100.0


# The verdicts


def make_group(make_run: MakeRun, optimizer: str, top1: tuple[float, ...], lost: int = 0, classes: int = 10) -> None:
    """Make runs with these final accuracies, of which the last `lost` diverged after their first epoch."""
    for seed, value in enumerate(top1):
        status = "diverged" if seed >= len(top1) - lost else "finished"
        path = make_run(optimizer, seed, (50.0, value), status, trainer__epochs=2)
        (path / "manifest.json").write_text(json.dumps({"data": {"classes": classes, "fingerprint": "f"}}))


def only(tmp_path: Path) -> GroupComparison:
    (comparison,) = examine([str(tmp_path / "outputs")]).comparisons
    return comparison


def test_three_survivors_of_five_are_not_better_than_five_finished_runs(make_run: MakeRun, tmp_path: Path) -> None:
    make_group(make_run, "adamw", ADAMW)
    make_group(make_run, "nesterov", NESTEROV, lost=2)
    comparison = only(tmp_path)
    assert [row.group.label for row in comparison.rows] == ["adamw", "nesterov"]  # sorted by the mean over all runs
    doubt = "Cannot tell whether adamw is better than nesterov with n = 5 and 5: the difference is 25.58 points"
    assert sentences(comparison.rows) == [
        f"{doubt}, diverged runs included (rank test, p = 1.00).",
        "Cannot tell whether adamw or nesterov diverges more often (0 of 5 seeds against 2 of 5, Fisher's exact "
        "test, p = 0.44).",
    ]
    text = markdown(comparison)
    assert "| adamw | 5 | 0 of 5 (0 to 52 %) | 0 | 0, 1, 2, 3, 4 | 75.00 ± 0.02 | 74.98 to 75.02 | – | 75.00" in text
    assert (
        "| nesterov | 5 | 2 of 5 (5 to 85 %) | 0 | 0, 1, 2, 3×, 4× | 49.42 ± 35.99 | – | 75.70 ± 0.02 (n = 3) |" in text
    )
    said = notes(comparison.rows)
    lost = "nesterov: 2 of 5 seeds diverged (Clopper and Pearson's 95 % interval: 5 to 85 %)"
    assert any(note.startswith(lost) for note in said)
    assert any(
        "finished runs alone reach 75.70 ± 0.02 % (n = 3), which flatters the group and is" in note for note in said
    )
    assert "× nesterov, seed 3: diverged at step 20 (epoch 2); counts as 10 % top-1 (chance)." in said


def test_every_file_and_the_page_mention_failures(make_run: MakeRun, tmp_path: Path) -> None:
    make_group(make_run, "adamw", ADAMW)
    make_group(make_run, "nesterov", NESTEROV, lost=2)
    write_report(examine([str(tmp_path / "outputs")]), tmp_path / "out")
    with (tmp_path / "out" / "table.csv").open(newline="") as file:
        adamw, nesterov = csv.DictReader(file)
    assert [nesterov[key] for key in ("n", "diverged", "running")] == ["5", "2", "0"]
    ends = [float(nesterov[f"diverged_{end}_percent"]) for end in ("low", "high")]
    assert ends == pytest.approx([5.27, 85.34], abs=0.01)  # from Clopper and Pearson's table
    assert float(nesterov["final_top1_percent_mean"]) == pytest.approx((3 * 75.7 + 20) / 5)
    assert float(nesterov["final_top1_of_finished_percent_mean"]) == pytest.approx(75.7)
    assert float(nesterov["final_loss_mean"]) == pytest.approx((3 * 2.43 + 2 * math.log(10)) / 5)
    assert nesterov["final_top1_percent_low"] == "" != adamw["final_top1_percent_low"]
    with (tmp_path / "out" / "pairs.csv").open(newline="") as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    assert {figure: (row["test"], row["verdict_on_a"]) for figure, row in rows.items()} == {
        "top1": ("ranks", "cannot tell"), "loss": ("ranks", "cannot tell"), "diverged": ("Fisher", "cannot tell")
    }  # fmt: skip
    assert float(rows["diverged"]["p"]) == pytest.approx(4 / 9)
    assert float(rows["diverged"]["mean"]) == pytest.approx(-40)
    page = (tmp_path / "out" / "index.html").read_text()
    for text in ("2 of 5 (5 to 85 %)", "nesterov diverges more often (", "finished runs only (%)"):
        assert text in page


def test_an_optimizer_that_always_diverges_is_worse_and_diverges_more_often(make_run: MakeRun, tmp_path: Path) -> None:
    make_group(make_run, "adamw", ADAMW)
    make_group(make_run, "nesterov", NESTEROV, lost=5)
    assert sentences(only(tmp_path).rows) == [
        "adamw is better than nesterov by 65.00 points, diverged runs included (rank test, p = 0.0020, n = 5 and 5).",
        "adamw diverges less often than nesterov (0 of 5 seeds against 5 of 5, Fisher's exact test, p = 0.0079).",
    ]


def test_reports_without_failures_do_not_mention_them(make_run: MakeRun, tmp_path: Path) -> None:
    make_group(make_run, "adamw", ADAMW)
    make_group(make_run, "nesterov", NESTEROV)
    (said,) = sentences(only(tmp_path).rows)
    assert said.startswith("nesterov is better than adamw by 0.70 points (95 % interval 0.6") and "paired" in said
    text = markdown(only(tmp_path))
    assert "| adamw | 5 | 0 | 0 |" in text and "finished runs alone" not in text and "chance" not in text


def test_a_last_validation_that_is_not_finite_counts_as_diverged_in_comparisons(
    make_run: MakeRun, tmp_path: Path
) -> None:
    make_group(make_run, "adamw", ADAMW)
    make_group(make_run, "nesterov", NESTEROV)
    for path in sorted((tmp_path / "outputs").glob("*/*nesterov*"))[:2]:
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 30, "epoch": 3.0, "val/acc1": 75.7, "val/loss": null}\n')
    comparison = only(tmp_path)
    assert [row.group.label for row in comparison.rows] == ["adamw", "nesterov"]
    assert comparison.rows[1].failures.count == 2
    assert "Cannot tell" in sentences(comparison.rows)[0]
    told = "nesterov, seed 0: val/loss is not finite at its last validation (step 30): counted as diverged."
    assert told in notes(comparison.rows)


def test_a_seed_fails_if_one_of_its_runs_failed(make_run: MakeRun, tmp_path: Path) -> None:
    make_group(make_run, "adamw", ADAMW[:3])
    make_group(make_run, "nesterov", NESTEROV[:3], lost=3)
    assert "adamw is better than nesterov by 65.00 points" in sentences(only(tmp_path).rows)[0]
    path = make_run("nesterov", 0, (50.0, 75.7), name="again", trainer__epochs=2)
    (path / "manifest.json").write_text(json.dumps({"data": {"classes": 10, "fingerprint": "f"}}))
    nesterov = only(tmp_path).rows[1]  # one run of seed 0 failed, so seed 0 failed
    assert (nesterov.failures.count, nesterov.n) == (3, 3)
    assert nesterov.final_top1 is not None
    assert nesterov.final_top1.mean == pytest.approx(10.0)  # as in rankings and over several workloads


def test_a_failed_loss_is_not_compared_if_the_number_of_classes_is_unknown(make_run: MakeRun, tmp_path: Path) -> None:
    make_group(make_run, "adamw", ADAMW, classes=0)
    make_group(make_run, "nesterov", NESTEROV, lost=2, classes=0)
    adamw, nesterov = rows = only(tmp_path).rows
    assert loss_pairs(rows) == [] and len(top1_pairs(rows)) == 1
    assert nesterov.final_loss is None and adamw.final_loss is not None
    assert nesterov.final_top1 is not None and nesterov.final_top1.mean == pytest.approx(3 * 75.7 / 5)


def test_the_ablation_counts_diverged_runs(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, value in enumerate(ADAMW):
        plain = {"lookahead_k": 0, "agc_clipping": None, "centralize": False, "pnm": False, "norm_loss": False}
        off = {f"optimizer__{key}": value for key, value in plain.items()} | {"optimizer__stable_decay": None}
        make_run("ranger21", seed, (50.0, value), name=f"without{seed}", **off)
        status = "diverged" if seed < 2 else "finished"
        make_run(
            "ranger21", seed, (50.0, value + 0.7), status, name=f"with{seed}", **off | {"optimizer__lookahead_k": 5}
        )
    comparison = only(tmp_path)
    (found,) = {c.difference for c in contributions(comparison)}
    assert found.mean == pytest.approx(-29.58)
    cell = "-29.58, p = 1: cannot tell, n = 5 (2 of 5 with it diverged, 0 of 5 without)"
    text = ablation_markdown(comparison, contributions(comparison))
    assert cell in text and "A diverged run counts as chance" in text


def test_winners_that_diverge_on_fresh_seeds_count_as_chance(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, value in enumerate((80.0, 82.0, 99.0)):
        tail = json.dumps({"step": 30, "epoch": 3.0, "holdout/acc1": value}) + "\n"
        path = make_run("adamw", seed, (50.0, 60.0), "diverged" if seed == 2 else "finished", tail=tail)
        (path / "manifest.json").write_text(json.dumps({"data": {"classes": 10}}))
    text = tuning_markdown(tunings([make_tuned("adamw")], find_runs([str(tmp_path)]).runs))
    assert "| adamw | 57.33 ± 41.00 (n = 3, 1 diverged) |" in text
