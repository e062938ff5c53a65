"""Every number that README and docs quote from committed records is what these records give."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from made_runs import Make

from ranger21.errors import UserError
from ranger21.report import numbers
from ranger21.report.write import examine, write_tables

STATEMENTS = """\
records: {made: outputs/test}
texts:
  text.md:
    made:
      - "AdamW {resnet50 on sample | adamw | top1}, ahead by {resnet50 on sample | adamw - nesterov | gap}"
      - "{runs} runs"
"""


def test_no_number_of_the_project_is_stale() -> None:
    phrases = numbers.check(ROOT / "docs" / "numbers.yaml", ROOT)
    assert sum(phrase.numbers for phrase in phrases) > 40
    assert [phrase for phrase in phrases if not phrase.found] == []
    assert numbers.stale_tables(ROOT / "docs" / "numbers.yaml", ROOT) == []


@pytest.fixture
def place(make: Make, tmp_path: Path) -> Path:
    """A text of six made runs, and its statements."""
    for seed, (adamw, nesterov) in enumerate([(70.0, 68.0), (71.0, 69.5), (72.0, 71.0)]):
        make("adamw", seed, (60.0, adamw))
        make("nesterov", seed, (60.0, nesterov))
    (tmp_path / "numbers.yaml").write_text(STATEMENTS)
    (tmp_path / "text.md").write_text("6 runs of torch 2.14: AdamW 71.00 ± 1.00,\n  ahead by 1.50 points.\n")
    return tmp_path


def stale(place: Path) -> list[str]:
    return [phrase.said for phrase in numbers.check(place / "numbers.yaml", place) if not phrase.found]


def test_a_number_is_stale_if_the_text_or_a_record_changes(place: Path) -> None:
    assert stale(place) == []
    text = (place / "text.md").read_text()
    (place / "text.md").write_text(text.replace("1.50", "1.60"))
    assert stale(place) == ["AdamW 71.00 ± 1.00, ahead by 1.50"]
    (place / "text.md").write_text(text)
    metrics = place / "outputs" / "test" / "resnet50-adamw-s2" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("72.0", "72.6"))
    assert stale(place) == ["AdamW 71.20 ± 1.31, ahead by 1.70"]


def test_the_other_numbers_of_a_text_are_told(place: Path) -> None:
    phrases = numbers.check(place / "numbers.yaml", place)
    assert numbers.others((place / "text.md").read_text(), phrases) == ["2.14"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("| adamw |", "| adam |", "in no record"),
        ("resnet50 on sample | adamw |", "resnet18 on sample | adamw |", "in no record"),
        ("| gap}", "| gasp}", "in no record"),
        ("{runs}", "{walks}", "in no record"),
        ("records:", "recrods:", "recrods"),
        ("text.md:", "no.md:", "no.md"),
    ],
)
def test_what_no_record_has_is_told(place: Path, before: str, after: str, told: str) -> None:
    statements = place / "numbers.yaml"
    statements.write_text(statements.read_text().replace(before, after))
    with pytest.raises(UserError, match=told):
        numbers.check(statements, place)


def test_a_table_is_stale_if_a_record_changes(place: Path) -> None:
    outputs = place / "outputs"
    write_tables(examine([str(outputs)]), outputs)
    assert numbers.stale_tables(place / "numbers.yaml", place) == []
    metrics = outputs / "test" / "resnet50-adamw-s2" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("72.0", "72.6"))
    assert {"outputs/table.md", "outputs/pairs.csv"} <= set(numbers.stale_tables(place / "numbers.yaml", place))
