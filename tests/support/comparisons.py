"""Read run directories as the report does."""

from __future__ import annotations

from pathlib import Path

from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.runs.finding import find_runs, read_run
from ranger21.report.runs.run import RecordedRun
from ranger21.report.tables.table import markdown


def read_single_run(path: Path) -> RecordedRun:
    run = read_run(path)
    assert isinstance(run, RecordedRun), run
    return run


def comparison_markdown(tmp_path: Path) -> str:
    """Return the only comparison, in Markdown."""
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path)]).runs)
    return markdown(comparison)
