"""Every number in README and docs that comes from committed records agrees with those records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.project import ROOT
from support.run_directories import MakeRun

from ranger21.numbers.check import Statements, others
from ranger21.report.write import examine, write_tables
from ranger21.system.errors import UserError

STATEMENTS = """\
records: {made: {runs: outputs/test}}
texts:
  text.md:
    made:
      - "AdamW {resnet50 on photos | adamw | top1}, ahead by {resnet50 on photos | adamw - nesterov | gap}"
      - "{runs} runs"
"""


def test_no_number_of_the_project_is_stale() -> None:
    statements = Statements(ROOT / "docs" / "numbers.yaml", ROOT)
    phrases = statements.phrases()
    assert sum(phrase.numbers for phrase in phrases) > 100
    assert [phrase for phrase in phrases if not phrase.found] == []
    assert statements.stale_tables() == []


@pytest.fixture
def place(make_run: MakeRun, tmp_path: Path) -> Path:
    """A text about six made-up runs, with its statements."""
    for seed, (adamw, nesterov) in enumerate([(70.0, 68.0), (71.0, 69.5), (72.0, 71.0)]):
        make_run("adamw", seed, (60.0, adamw))
        make_run("nesterov", seed, (60.0, nesterov))
    (tmp_path / "numbers.yaml").write_text(STATEMENTS)
    (tmp_path / "text.md").write_text("6 runs of torch 2.14: AdamW 71.00 ± 1.00,\n  ahead by 1.50 points.\n")
    return tmp_path


def stale(place: Path) -> list[str]:
    return [phrase.said for phrase in Statements(place / "numbers.yaml", place).phrases() if not phrase.found]


def test_a_number_is_stale_if_the_text_or_a_record_changes(place: Path) -> None:
    assert stale(place) == []
    text = (place / "text.md").read_text()
    (place / "text.md").write_text(text.replace("1.50", "1.60"))
    assert stale(place) == ["AdamW 71.00 ± 1.00, ahead by 1.50"]
    (place / "text.md").write_text(text)
    metrics = place / "outputs" / "test" / "resnet50-adamw-s2" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("72.0", "72.6"))
    assert stale(place) == ["AdamW 71.20 ± 1.31, ahead by 1.70"]


def test_numbers_that_no_statement_covers_are_listed(place: Path) -> None:
    phrases = Statements(place / "numbers.yaml", place).phrases()
    assert others((place / "text.md").read_text(), phrases) == ["2.14"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("| adamw |", "| adam |", "no record in"),
        ("resnet50 on photos | adamw |", "resnet18 on photos | adamw |", "no record in"),
        ("| gap}", "| gasp}", "no record in"),
        ("{runs}", "{walks}", "no record in"),
        ("records:", "recrods:", "recrods"),
        ("{runs: outputs", "{walks: outputs", "unknown kind"),
        ("text.md:", "no.md:", "no.md"),
    ],
)
def test_statements_without_a_record_are_refused(place: Path, before: str, after: str, message: str) -> None:
    statements = place / "numbers.yaml"
    statements.write_text(statements.read_text().replace(before, after))
    with pytest.raises(UserError, match=message):
        Statements(statements, place).phrases()


def test_a_table_is_stale_if_a_record_changes(place: Path) -> None:
    outputs = place / "outputs"
    write_tables(examine([str(outputs)]), outputs)
    assert Statements(place / "numbers.yaml", place).stale_tables() == []
    metrics = outputs / "test" / "resnet50-adamw-s2" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("72.0", "72.6"))
    assert {"outputs/table.md", "outputs/pairs.csv"} <= set(Statements(place / "numbers.yaml", place).stale_tables())


@pytest.fixture
def timed(tmp_path: Path) -> Path:
    """The records of two timed runs, a fault campaign with three faults, and a landscape."""
    for name, speeds in {"fast": [1, 20, 30, 40], "slow": [1, 10, 15, 20]}.items():
        lines = [{"step": n, "perf/images_per_s": x, "train/loss": 1 / x} for n, x in enumerate(speeds)]
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    faults = [{"kind": kind, "mistake": mistake} for kind, mistake in (("a", ""), ("a", ""), ("b", "lost"))]
    campaign = {
        "faults": faults,
        "runs": [{"weights": 0.0}, {"weights": 4.4e-16}],
        "commit": "0123456789",
        "minutes": 2.04,
    }
    (tmp_path / "faults.json").write_text(json.dumps(campaign))
    mark = {"checkpoint": "a/r", "loss": 0.9219, "sharpness": {"mean": 0.0533, "sd": 0.0076}}
    (tmp_path / "landscape.json").write_text(json.dumps({"surfaces": [{"marks": [mark]}]}))
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "where", "phrase", "said"),
    [
        ("speeds", ".", "{fast | median}, {fast | range}, n = {slow | n}", "30, 20 to 40, n = 3"),
        ("speeds", ".", "{fast / slow} times; {fast - slow | 1} apart", "2.00 times; 5.0e-2 apart"),
        ("faults", "faults.json", "{recovered} of {faults} of {kinds} kinds", "2 of 3 of 2 kinds"),
        ("faults", "faults.json", "{runs} runs, {largest}, {commit}, {minutes}", "2 runs, 4.4e-16, 0123456, 2.0"),
        ("landscape", "landscape.json", "{r | loss}, {r | sharpness}", "0.922, 0.053 ± 0.008"),
    ],
)
def test_numbers_can_come_from_other_kinds_of_records(
    timed: Path, kind: str, where: str, phrase: str, said: str
) -> None:
    tree = {"records": {"it": {kind: where}}, "texts": {"text.md": {"it": [phrase]}}}
    (timed / "numbers.yaml").write_text(json.dumps(tree))
    for text, found in ((said, True), (said.replace("2", "3"), False)):
        (timed / "text.md").write_text(f"It is {text}.")
        (only,) = Statements(timed / "numbers.yaml", timed).phrases()
        assert (only.said, only.found) == (said, found)
