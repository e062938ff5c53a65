"""Tables and bars on narrow terminals, in notebooks and in files: numbers are whole, and lines fit."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console
from support.grids import make_job
from support.run_directories import MakeRun

from ranger21.grid import progress
from ranger21.grid.slurm import Slurm
from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.runs.finding import find_runs
from ranger21.report.tables.results import terminal
from ranger21.system import processes

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def console_of(width: int) -> Console:
    return Console(width=width, file=io.StringIO(), force_terminal=True, highlight=False)


def lines_of(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return re.split(r"[\r\n]+", CODES.sub("", console.file.getvalue()))


@pytest.mark.parametrize("width", [46, 60, 80, 100, 130, 200])
def test_the_results_have_as_many_columns_as_fit_and_no_number_is_cut(
    make_run: MakeRun, tmp_path: Path, width: int
) -> None:
    for optimizer in ("adamw", "ranger21"):
        for seed in range(3):
            make_run(optimizer, seed, (50.0, 60.0 + seed), schedule__name=f"schedule_of_{optimizer}")
    (comparison,) = compare_like_with_like(find_runs([str(tmp_path)]).runs)
    console = console_of(width)
    console.print(terminal(comparison.rows, comparison.title, console))
    lines = lines_of(console)
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if "61.00 ± 1.00   58.52 to 63.48   3" in line]
    assert len(rows) == 2 and not any("…" in line for line in lines)
    assert ("images/s" in lines[2]) == (width == 200) == (not any("table.md also has" in line for line in lines))


def test_the_status_of_a_grid_fits_into_80_columns_and_names_the_errors_below(tmp_path: Path) -> None:
    place, sentence = tmp_path / "paper", "the data are missing, " * 9
    jobs = [make_job(place / name) for name in ("resnet50-ranger21_official-s0-141fd0a5", "b")]
    (place / "b" / "launcher.txt").write_text(f"error: {sentence}\n")
    console = console_of(80)
    console.print(progress.table(jobs, Slurm(tmp_path / "grid", [], []), console))
    lines = lines_of(console)
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
    assert lines[1].split()[:4] == ["run", "state", "done", "left"]
    assert any("resnet50-ranger21_official-s0-141fd0a5   stopped" in line for line in lines)
    said = " ".join(" ".join(lines).split())
    assert f"2 runs: 1 stopped, 1 failed paper/b: {sentence.strip()}" in said


def test_a_status_that_no_terminal_shows_is_printed_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = iter(range(3))

    def jobs() -> list[progress.PlannedRun]:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return [make_job(tmp_path / str(time.monotonic_ns()))]

    with pytest.raises(KeyboardInterrupt):
        progress.show(jobs, Slurm(tmp_path / "grid", [], []), 0.01)
    assert capsys.readouterr().out.count("1 runs: 1 stopped") == 2


def test_a_bar_is_one_line_whatever_its_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    for heading, shown in (("copied", "copied: 400 of 1,000  left "), ("points of a surface " * 9, "points of a surf")):
        console = console_of(80)
        monkeypatch.setattr(processes, "console", console)
        with processes.ProgressBar(heading, 1000, "{:,.0f}".format) as bar:
            bar.advance(400)
            time.sleep(0.2)
        lines = lines_of(console)
        bars = [line for line in lines if "━" in line]
        assert bars and max(map(len, bars)) <= 80 and all(shown.split()[0] in line for line in bars)
        assert any(shown in line for line in bars), bars
