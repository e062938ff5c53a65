"""The figures in docs/faults.md and README are those of the record in results/faults."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_figures_are_those_of_the_record() -> None:
    record = json.loads((ROOT / "results" / "faults" / "faults.json").read_text())
    docs, readme = ((ROOT / name).read_text() for name in ("docs/faults.md", "README.md"))
    faults, runs = record["faults"], record["runs"]
    recovered = sum(not fault["mistake"] for fault in faults)
    assert f"{len(faults):,} faults in {len(runs)} runs" in docs and f"commit {record['commit'][:7]}" in docs
    assert f"**{recovered} of the {len(faults):,} recovered" in docs
    kinds = {fault["kind"] for fault in faults}
    assert f"{len(faults):,} faults of {len(kinds)} kinds" in readme and f"{recovered} as promised" in readme
    same = [run for run in runs if "→" not in run["leg"]]
    assert all(run["finished"] and run["metrics"] for run in runs)
    assert all(run["weights"] == 0 and run["state"] for run in same)
    largest = max(run["weights"] for run in runs)
    assert f"differed by more than {largest:.1e}" in docs and f"within {largest:.1e}" in readme
