"""The comparison report, tested on made-up runs whose values are known."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from support.comparisons import comparison_markdown, read_single_run
from support.run_directories import OPTIMIZERS, MakeRun

from ranger21.report.figures import drawing as figures
from ranger21.report.figures.curves import average, bin_width, binned
from ranger21.report.figures.drawing import ErrorBar, FigurePanel, make_figure
from ranger21.report.groups.grouping import group_runs
from ranger21.report.groups.summary import summarise
from ranger21.report.runs.finding import find_runs
from ranger21.report.statistics.pairs import estimate
from ranger21.report.tables.table import notes
from ranger21.report.tables.text import table_lines
from ranger21.system.errors import UserError


def labels(tmp_path: Path) -> list[str]:
    return [group.label for group in group_runs(find_runs([str(tmp_path)]).runs)]


# Reading


def test_a_truncated_last_line_is_ignored(make_run: MakeRun) -> None:
    run = read_single_run(make_run(top1=(50.0, 60.0), status="running", tail='{"step": 25, "epoch": 2.5, "train/lo'))
    assert run.last("epoch") == 2.0
    assert run.status == "running"
    assert run.notes == ()


def test_an_unreadable_line_is_counted(make_run: MakeRun) -> None:
    path = make_run(tail='{"step": 25, "tr{"step": 25}\n{"step": 30, "epoch": 3.0, "train/loss": 1.0}\n')
    run = read_single_run(path)
    assert run.last("train/loss") == 1.0
    assert any("1 unreadable" in note for note in notes(summarise(group_runs([run]))))


def test_the_last_value_of_a_repeated_step_counts(make_run: MakeRun) -> None:
    run = read_single_run(make_run(top1=(50.0, 60.0), tail='{"step": 20, "epoch": 2.0, "val/acc1": 61.5}\n'))
    assert run.series("val/acc1")[1].tolist() == [50.0, 61.5]
    assert run.last("val/loss") == 4.0  # from the first line of that step, because the second has no val/loss


def test_a_resumed_run_replaces_later_lines_of_the_interrupted_one(make_run: MakeRun) -> None:
    again = '{"step": 10, "epoch": 1.0, "val/acc1": 51.0}\n{"step": 15, "epoch": 1.5, "train/loss": 7.0}\n'
    run = read_single_run(make_run(top1=(50.0, 60.0, 70.0), status="running", tail=again))
    assert run.series("val/acc1")[1].tolist() == [51.0]
    assert run.last("epoch") == 1.5


def test_nan_and_null_values_are_ignored(make_run: MakeRun) -> None:
    tail = '{"step": 30, "epoch": 3.0, "val/acc1": NaN, "val/loss": null}\n'
    run = read_single_run(make_run(top1=(50.0, 60.0), tail=tail))
    assert run.last("val/acc1") == 60.0
    assert run.last("val/loss") == 4.0


def test_runs_are_found_by_directory_parent_and_glob_once(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = make_run(seed=0), make_run(seed=1)
    patterns = [str(first), str(tmp_path), str(second.parent / "*-s1")]
    assert [run.path.name for run in find_runs(patterns).runs] == [first.name, second.name]
    assert [run.seed for run in find_runs([str(first.parent / "*-s1")]).runs] == [1]


def test_paths_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        find_runs([str(tmp_path)])
    with pytest.raises(UserError, match=r"outptus does not exist: give run directories"):
        find_runs([str(tmp_path / "outptus")])
    with pytest.raises(UserError, match="the path is empty: give run directories"):
        find_runs([str(tmp_path), ""])
    with pytest.raises(UserError, match=r"xxx cannot be read \(File name too long\): give run directories"):
        find_runs(["x" * 1000])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_reported(make_run: MakeRun) -> None:
    path = make_run()
    path.parent.chmod(0o600)
    with pytest.raises(UserError, match=f"{path.parent}.* cannot be read \\(Permission denied\\): give"):
        find_runs([str(path.parent)])
    path.parent.chmod(0o700)


def test_a_run_without_config_is_left_out_and_reported(make_run: MakeRun, tmp_path: Path) -> None:
    path, kept = make_run(), make_run(seed=1)
    (path / "config.yaml").unlink()
    found = find_runs([str(tmp_path)])
    assert [run.path for run in found.runs] == [kept]
    assert found.left_out == [f"{path} is left out: it has no config.yaml, so its settings are unknown."]
    with pytest.raises(UserError, match=r"no config\.yaml"):
        find_runs([str(path)])


def test_an_invalid_wandb_file_is_left_out_and_reported(make_run: MakeRun, tmp_path: Path) -> None:
    kept, file = make_run(), tmp_path / "a.wandb"
    file.write_text("hello there")
    found = find_runs([str(kept), str(file)])
    assert [run.path for run in found.runs] == [kept]
    (sentence,) = found.left_out
    assert sentence.startswith(f"a file is left out: {file} is not a W&B file"), sentence


# Groups


def test_seeds_with_equal_settings_form_a_group(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        make_run(seed=seed)
    (group,) = group_runs(find_runs([str(tmp_path)]).runs)
    assert group.label == "adamw"
    assert [run.seed for run in group.runs] == [0, 1, 2]


def test_seeds_that_each_continued_their_own_run_form_a_group(make_run: MakeRun, tmp_path: Path) -> None:
    """Parents that differ in the seed alone make a group; other settings, by the hash in the name, make another."""
    for seed, parent in ((0, "a-s0-0123abcd"), (1, "a-s1-0123abcd"), (2, "a-s2-4567abcd"), (3, "a-s3")):
        make_run(seed=seed, continue_from=f"/old/outputs/paper/{parent}")
    groups = group_runs(find_runs([str(tmp_path)]).runs)
    assert sorted(len(group.runs) for group in groups) == [1, 1, 2]
    assert any("paper/a-s*-0123abcd" in group.label for group in groups)


def test_labels_of_different_optimizers_contain_only_their_names(make_run: MakeRun, tmp_path: Path) -> None:
    for optimizer in OPTIMIZERS:
        make_run(optimizer)
    groups = group_runs(find_runs([str(tmp_path)]).runs)
    assert [group.label for group in groups] == ["adamw", "nesterov", "ranger21"]
    text = " ".join(notes(summarise(groups)))
    assert "optimizer.lr (adamw 0.001; nesterov 0.1; ranger21 0.003)" in text
    assert "momentum" not in text


def test_optimizer_settings_are_compared_within_the_optimizer(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw")
    make_run("ranger21", name="a")
    make_run("ranger21", name="b", optimizer__stable_decay="global")
    make_run("ranger21", name="c", optimizer__stable_decay=None)
    assert labels(tmp_path) == [
        "adamw",
        "ranger21 stable_decay=global",
        "ranger21 stable_decay=layer",
        "ranger21 stable_decay=null",
    ]


def test_labels_contain_only_differing_settings_names_first(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("ranger21", name="a", optimizer__lookahead_k=0)
    make_run("ranger21", name="b", schedule__name="cosine")
    assert labels(tmp_path) == ["schedule=constant lookahead_k=0", "schedule=cosine lookahead_k=5"]
    make_run("adamw", name="c")
    assert labels(tmp_path) == [
        "adamw",
        "ranger21 schedule=constant lookahead_k=0",
        "ranger21 schedule=cosine lookahead_k=5",
    ]


def test_labels_distinguish_close_numbers_but_not_1_from_1_0(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(name="a", optimizer__lr=1)
    make_run(name="b", optimizer__lr=1.0, seed=1)
    assert labels(tmp_path) == ["adamw"]
    make_run(name="c", optimizer__lr=1.00000001)
    assert labels(tmp_path) == ["lr=1", "lr=1.00000001"]


def test_a_missing_setting_separates_only_groups_of_one_optimizer(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", name="a")
    make_run("ranger21", name="b", trainer__later=0.9)
    assert labels(tmp_path) == ["adamw", "ranger21"]
    make_run("adamw", name="c", trainer__later=0.9)
    assert labels(tmp_path) == ["adamw trainer.later=0.9", "adamw trainer.later=unset", "ranger21"]


def test_experiments_are_separate_groups(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(name="a")
    make_run(name="b", experiment="other")
    assert labels(tmp_path) == ["experiment=other", "experiment=test"]


# Table


def test_rows_have_known_values_and_order(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, top1 in enumerate([(50.0, 62.0), (50.0, 60.0), (65.0, 61.0)]):
        make_run("adamw", seed, top1)
    make_run("ranger21", 0, (50.0, 70.0))
    first, second = summarise(group_runs(find_runs([str(tmp_path)]).runs))
    assert (first.group.label, second.group.label) == ("ranger21", "adamw")
    assert second.final_top1 == estimate([62.0, 60.0, 61.0])
    assert second.best_top1 == estimate([62.0, 60.0, 65.0])
    assert second.best_epoch == estimate([2.0, 2.0, 1.0])
    assert second.final_loss == estimate([3.8, 4.0, 3.9])
    assert second.time == estimate([1200.0] * 3)
    assert second.images_per_s == estimate([500.0] * 3)  # the median leaves the first value out
    text = comparison_markdown(tmp_path)
    assert "| adamw | 3 | 0 | 0 | 0, 1, 2 | 61.00 ± 1.00 | 58.52 to 63.48 |" in text
    assert "| ranger21 | 1 | 0 | 0 | 0 | 70.00 | – | 70.00 | 2.0 | 99.00 | 3.000 | 20.0 | 500 |" in text
    assert "No conclusion with fewer than 3 seeds: ranger21 (n = 1)." in text
    assert "Too few seeds to tell whether ranger21 is better than adamw (n = 1 and 3; at least 3 needed)" in text


def test_special_characters_do_not_break_a_table(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(name="a", optimizer__note="plain")
    make_run(name="b", optimizer__note="x | y\nz")
    heads, rule, *rows = (line for line in comparison_markdown(tmp_path).splitlines() if line.startswith("|"))
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in (heads, rule, *rows)] == [14] * 4
    assert rows[1].startswith(r"| note=x \| y\\nz | 1 | 0 |")


def test_running_runs_are_left_out_and_diverged_runs_count(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(seed=0, top1=(50.0, 60.0), trainer__epochs=2)
    make_run(seed=1, top1=(50.0, 99.0), status="diverged", trainer__epochs=2)
    make_run(seed=2, top1=(55.0,), status="running", trainer__epochs=2)
    rows = summarise(group_runs(find_runs([str(tmp_path)]).runs))
    assert rows[0].final_top1 == replace(estimate([60.0, 0.0]), low=None, high=None)
    text = comparison_markdown(tmp_path)
    assert "| adamw | 2 | 1 of 2 (1 to 99 %) | 1 | 0, 1×, 2○ | 30.00 ± 42.43 | – | 60.00 (n = 1) |" in text
    value = "counts as 0 % top-1 (the worst value, as the number of classes is unknown)"
    assert f"× adamw, seed 1: diverged at step 20 (epoch 2); {value}." in text
    assert "○ adamw, seed 2: running or stopped at epoch 1, top-1 55.00 %; not in the means." in text


def test_a_group_without_ended_runs_comes_last(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", status="running", top1=(90.0,), trainer__epochs=2)
    make_run("ranger21", status="diverged", top1=(90.0,), trainer__epochs=2)
    make_run("nesterov", top1=(10.0, 20.0))
    rows = summarise(group_runs(find_runs([str(tmp_path)]).runs))
    assert [row.group.label for row in rows] == ["nesterov", "ranger21", "adamw"]
    assert "| adamw | 0 | 0 | 1 | 0○ | – | – | – | – | – | – |" in comparison_markdown(tmp_path)


def test_a_seed_that_ran_twice_is_reported(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(name="a")
    make_run(name="b")
    found = notes(summarise(group_runs(find_runs([str(tmp_path)]).runs)))
    assert any("have seed 0: their mean counts as one seed" in note for note in found)
    assert any("adamw (n = 1)" in note for note in found)  # one seed, although two runs


# Curves


def test_bins_contain_means_at_their_centres() -> None:
    epochs, values = binned((np.array([0.5, 1.0, 1.5, 3.0]), np.array([1.0, 3.0, 5.0, 7.0])), 1.0)
    assert epochs.tolist() == [0.5, 1.5, 2.5]
    assert values.tolist() == [2.0, 5.0, 7.0]


def test_bin_width_is_round(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(top1=tuple(float(value) for value in range(60)))
    assert bin_width(group_runs(find_runs([str(tmp_path)]).runs)) == pytest.approx(1.0)
    assert bin_width([]) == 1.0


def test_the_average_covers_the_range_that_all_curves_share() -> None:
    short = (np.array([1.0, 3.0]), np.array([10.0, 30.0]))
    long = (np.array([1.0, 2.0, 3.0, 4.0]), np.array([20.0, 20.0, 20.0, 99.0]))
    epochs, mean, low, high = average([short, long, (np.empty(0), np.empty(0))])
    assert epochs.tolist() == [1.0, 2.0, 3.0]
    assert mean.tolist() == [15.0, 20.0, 25.0]
    assert low.tolist() == [10.0, 20.0, 20.0]
    assert high.tolist() == [20.0, 20.0, 30.0]
    assert len(average([])[0]) == 0


def test_figures_state_n_and_draw_a_band_only_for_several_seeds(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in range(3):
        make_run("adamw", seed, (50.0, 60.0 + seed))
    make_run("ranger21", 0, (50.0, 70.0))
    make_run("ranger21", 1, (50.0,), status="diverged", trainer__epochs=2)
    panel = FigurePanel("top-1", lambda run: run.series("val/acc1"), log=False)
    figure = make_figure(group_runs(find_runs([str(tmp_path)]).runs), [panel], "")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["adamw (n = 3)", "ranger21 (n = 1, 1 diverged)", "diverged run"]
    (axes,) = figure.axes
    assert len(axes.collections) == 1
    adamw = np.asarray(axes.lines[0].get_ydata())
    assert adamw.tolist() == [50.0, 61.0]


def test_a_diverging_loss_does_not_stretch_the_axis(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("adamw", 0)
    make_run("adamw", 1, status="diverged", tail='{"step": 25, "epoch": 2.5, "train/loss": 1e30}\n')
    panel = FigurePanel("loss", lambda run: run.series("train/loss"), log=True)
    (axes,) = make_figure(group_runs(find_runs([str(tmp_path)]).runs), [panel], "").axes
    assert axes.get_ylim()[1] < 100


def test_error_bars_may_end_at_zero_or_have_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure))
    bars = [ErrorBar("a", "k", 1.0, 0.0, 2.0), ErrorBar("b", "k", -1.0, -2.0, 0.0), ErrorBar("c", "k", 3.0, None, None)]
    figures.write_error_bars(bars, "abc", "points", tmp_path / "bars")
    (lines,) = (lines for lines in drawn[0].axes[0].collections if isinstance(lines, LineCollection))
    assert [line[:, 0].tolist() for line in lines.get_segments()] == [[0.0, 2.0], [-2.0, 0.0], [3.0, 3.0]]


def test_runs_without_logged_values_can_be_drawn(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(top1=(), status="running")
    groups = group_runs(find_runs([str(tmp_path)]).runs)
    panel = FigurePanel("loss", lambda run: binned(run.series("train/loss"), bin_width(groups)), log=True)
    figure = make_figure(groups, [panel], "")
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing logged here"]
    assert figure.axes[0].get_yticklabels(which="both") == []
    assert "running or stopped before its first logged step" in comparison_markdown(tmp_path)


# Tables


@pytest.mark.parametrize("cell", ["x|y", r"x\|y", r"x\\|y", r"|", "x\\", r"\*x\*", r"\udcff"])
def test_cells_of_a_table_are_escaped_and_unescape_to_the_original(cell: str) -> None:
    """The cells are split and unescaped as on GitHub, where a backslash escapes any next character."""
    head, rule, row = table_lines([cell, "b"], [[cell, "b"]], right=[0])
    assert rule == "| ---: | --- |"
    for line in (head, row):
        cells = re.fullmatch(r"\| ((?:\\.|[^|\\])*) \| ((?:\\.|[^|\\])*) \|", line)
        assert cells and re.sub(r"\\(.)", r"\1", cells[1]) == cell and cells[2] == "b", line


def test_a_cell_with_a_newline_becomes_one_line() -> None:
    assert table_lines(["a\nb"], [["c\nd"]]) == ["| a b |", "| --- |", "| c d |"]
