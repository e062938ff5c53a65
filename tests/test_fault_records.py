"""The record in results/faults has what docs/faults.md says of every run; its numbers are tested by test_numbers."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_run_ended_as_the_undisturbed_one() -> None:
    runs = json.loads((ROOT / "results" / "faults" / "faults.json").read_text())["runs"]
    same = [run for run in runs if "→" not in run["leg"]]
    assert all(run["finished"] and run["metrics"] for run in runs)
    assert all(run["weights"] == 0 and run["state"] for run in same)
