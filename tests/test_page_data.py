"""The data of the report's page, without a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from support.page_runs import groups_of, make_run, tab_of

from ranger21.report.page.data import page_data, points_a_curve, thinned
from ranger21.report.page.page import embedded
from ranger21.report.page.tables import difference_table


def test_curves_are_thinned_to_means_of_consecutive_points() -> None:
    assert thinned(np.arange(5.0), 5).tolist() == [0, 1, 2, 3, 4]
    assert thinned(np.arange(7.0), 3).tolist() == [1, 4, 6]
    assert len(thinned(np.arange(1_000_003.0), 600)) <= 600
    assert (points_a_curve(1), points_a_curve(50), points_a_curve(100)) == (600, 600, 300)


def test_runs_with_the_same_name_have_separate_switches(tmp_path: Path) -> None:
    for place in ("first", "second"):
        make_run(tmp_path / place, seed=0)
    make_run(tmp_path / "first", seed=1)
    (group,) = page_data([tab_of(tmp_path)])["tabs"][0]["groups"]
    names = [str(tmp_path / place / "resnet50-adamw-s0") for place in ("first", "second")]
    assert [run["name"] for run in group["runs"]] == [*names, "resnet50-adamw-s1"]


def test_embedded_json_contains_no_tags() -> None:
    text = embedded(["</script><!--", "\u2028", "\udc80"])
    assert text.isascii()
    assert not set("<>&") & set(text)
    assert json.loads(text)[:2] == ["</script><!--", "\u2028"]


def test_the_difference_table_contains_only_settings_that_differ(tmp_path: Path) -> None:
    for optimizer in ("adamw", "ranger21"):
        make_run(tmp_path, optimizer)
    table = difference_table(groups_of(tmp_path))
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>.*?>(\w+)</span></td>', table)
    assert rows == [
        ("<code>optimizer.lr</code>", "0.001", "adamw"), ("", "0.003", "ranger21"),
        ("<code>optimizer.name</code>", "adamw", "adamw"), ("", "ranger21", "ranger21"),
    ]  # fmt: skip
    assert "model.name" not in table
    assert difference_table(groups_of(tmp_path)[:1]) == ""
