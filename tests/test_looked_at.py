"""Reports on runs with a holdout: they say which images a figure is measured on, and draw the holdout's curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.comparisons import comparison_markdown, read_single_run
from support.grids import make_job
from support.run_directories import MakeRun

from ranger21.config.compose import compose_config
from ranger21.engine.precision import choose_precision
from ranger21.grid.progress import progress
from ranger21.landscape.settings import Settings
from ranger21.landscape.subject import load_images
from ranger21.report.claims.figures import best_is_last, leaves_chance, roughness
from ranger21.report.figures.gallery import gallery
from ranger21.report.groups.comparisons import GroupComparison, compare_like_with_like
from ranger21.report.groups.grouping import group_runs
from ranger21.report.groups.summary import best, final_top1
from ranger21.report.page.tables import run_table
from ranger21.report.runs.finding import find_runs
from ranger21.report.tables.table import markdown
from ranger21.system.distributed import join
from ranger21.system.errors import UserError
from ranger21.wandb_tools.file import Fragment
from ranger21.wandb_tools.merged import FoundRun, outcome

HELD = (30.0, 80.0, 70.0)  # top-1 on the holdout after each epoch
OFFICIAL = 55.0  # top-1 on the official validation set at the end


@pytest.fixture
def held(make_run: MakeRun) -> MakeRun:
    """Make a run of three epochs with a holdout; `final` is its top-1 on the official set (None: it never read it)."""

    def make_held(final: float | None = OFFICIAL, **settings: Any) -> Path:
        never = {} if final is not None else {"trainer__final_validation": False}
        path = make_run(top1=HELD, data__holdout=1000, **settings, **never)
        rows = [json.loads(line.replace('"val/', '"holdout/')) for line in (path / "metrics.jsonl").open()]
        if final is not None:
            rows[-1] |= {"val/acc1": final, "val/acc5": 90.0, "val/loss": 2.0, "val/loss_smoothed": 2.5}
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = {"classes": 10, "val_images": 300, "holdout_images": 1000}
        (path / "manifest.json").write_text(json.dumps({"data": data}))
        return path

    return make_held


def mixed(tmp_path: Path) -> GroupComparison:
    """Return the only comparison of runs with and without a holdout."""
    across = ("data.holdout", "trainer.final_validation")
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path)]).runs, across)
    return comparison


def test_the_final_top1_is_of_the_official_set_and_the_best_of_the_holdout(held: MakeRun) -> None:
    run = read_single_run(held())
    assert (run.watched, final_top1(run), best(run)) == ("holdout", OFFICIAL, (80.0, 2.0))
    assert not best_is_last(run) and leaves_chance(run) and roughness(run) is not None
    trial = read_single_run(held(final=None, seed=1))
    assert (trial.final("holdout/acc1"), final_top1(trial), best(trial)) == (70.0, None, (80.0, 2.0))


def test_a_run_leaves_chance_if_its_holdout_does(held: MakeRun) -> None:
    assert leaves_chance(read_single_run(held(final=10.0)))  # the holdout is above chance


def test_the_table_says_on_which_images_a_figure_is_measured(held: MakeRun, make_run: MakeRun, tmp_path: Path) -> None:
    held(seed=0)
    text = comparison_markdown(tmp_path)
    assert (
        "Best top-1 is measured on the holdout of the training set (data.holdout), on which best.pt was selected"
        in text
    )
    assert "set, once, at the end" in text and "biased" not in text
    held(final=None, seed=1, name="trial")
    held(seed=2, status="running", name="running")
    make_run(optimizer="ranger21", top1=(50.0, 60.0, 55.0))
    text = markdown(mixed(tmp_path))
    assert "selected on the official validation set itself (data.holdout=0), so best top-1 is biased upwards." in text
    assert "never evaluated on the official validation set (trainer.final_validation=false): it has no final" in text
    assert "running or stopped at epoch 3, top-1 70.00 % of the holdout; not in the means" in text


def test_without_a_holdout_the_report_says_that_best_was_selected_on_validation(
    make_run: MakeRun, tmp_path: Path
) -> None:
    make_run()
    assert (
        "Best top-1 and best.pt were selected on the official validation set itself (data.holdout=0)"
        in comparison_markdown(tmp_path)
    )


def test_the_table_says_that_a_run_continued_another_whose_time_it_lacks(make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    assert "continue_from" not in comparison_markdown(tmp_path)
    make_run(seed=1, continue_from="outputs/test/resnet50-adamw-s1", name="longer")
    assert "continued a finished run (continue_from): its steps, epochs" in comparison_markdown(tmp_path)


def test_curves_and_the_page_name_the_holdout(held: MakeRun, make_run: MakeRun, tmp_path: Path) -> None:
    runs = [read_single_run(held()), read_single_run(held(final=None, seed=1))]
    (comparison, *_) = compare_like_with_like(runs)
    panels = {panel.title: panel for picture in gallery(comparison) for panel in picture.panels}
    curve = panels["Holdout top-1 (%)"].curve
    assert curve is not None and list(curve(runs[0])[1]) == list(HELD)
    assert "Holdout loss, label-smoothed" in panels and not [title for title in panels if "alidation" in title]
    table = run_table(group_runs(runs))
    assert f"<td>{OFFICIAL:.2f}</td>" in table and "<td>70.00 (holdout)</td>" in table
    make_run(optimizer="ranger21", top1=(50.0, 60.0, 55.0))
    titles = {panel.title for picture in gallery(mixed(tmp_path)) for panel in picture.panels}
    assert {"Validation or holdout top-1 (%)", "Validation or holdout loss, label-smoothed"} <= titles


def test_the_best_step_of_a_merged_wandb_run_is_chosen_on_the_holdout(tmp_path: Path) -> None:
    rows = [{"step": step, "holdout/acc1": top1, "lr": 1} for step, top1 in ((2, 10.0), (4, 30.0), (6, 20.0))]
    rows[-1] |= {"val/acc1": 99.0}
    run = FoundRun("r", tmp_path, [Fragment(tmp_path / "a", "r")])
    assert outcome(run, rows) == {"best/step": 4, "best/holdout/acc1": 30.0}


def test_the_progress_of_a_grid_names_the_split_of_its_top1(tmp_path: Path) -> None:
    now = progress(make_job(tmp_path / "a", **{"holdout/acc1": 12.5, "val/acc1": 11.0}))
    assert (now.top1, now.split) == (12.5, "holdout")


def test_a_landscape_on_the_holdout_needs_data_holdout(images: Path) -> None:
    words = ["data=imagenet", f"data.root={images}", "data.resize=36", "data.crop=32", "data.batch_size=16"]
    words += ["trainer.device=cpu"]
    settings = Settings(("run",), split="holdout", images=12, bn_images=16)
    with join("cpu") as world:
        precision = choose_precision("fp32", world.device)
        with pytest.raises(UserError, match="--split holdout cannot be used"):
            load_images(compose_config(words).data, settings, world, precision)
        data = compose_config([*words, "data.holdout=10"]).data
        assert sum(len(batch.labels) for batch in load_images(data, settings, world, precision).batches) == 10
