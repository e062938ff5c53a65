"""The committed results; test_numbers.py compares their tables and numbers with the records."""

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


def tracked(folder: str) -> list[Path]:
    """Return the files of a folder that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no clone")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_results_are_compact() -> None:
    files = tracked("results")
    assert len(files) < 90
    assert sum(file.stat().st_size for file in files) < 4_000_000


def test_every_figure_in_results_is_linked_by_a_text() -> None:
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *RESULTS.rglob("*.md")]
    links = [(text.parent / link).resolve() for text in texts for link in re.findall(r"\]\(([^)#]+)", text.read_text())]
    figures = [file for file in tracked("results") if file.suffix in (".png", ".svg")]
    assert [file for file in figures if file not in links] == []


def test_every_run_of_the_fault_campaign_ended_like_the_undisturbed_one() -> None:
    runs = json.loads((RESULTS / "faults" / "faults.json").read_text())["runs"]
    same = [run for run in runs if "→" not in run["leg"]]
    assert all(run["finished"] and run["metrics"] for run in runs)
    assert all(run["weights"] == 0 and run["state"] for run in same)
