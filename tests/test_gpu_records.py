"""The speeds in docs/gpu.md are those of the records in results/gpu."""

import json
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNS = {
    "`model=resnet50 optimizer=adamw`": "resnet50-adamw",
    "`model=resnet50` (Ranger21) | 64": "resnet50-ranger21",
    "`model=nf_resnet50` (Ranger21)": "nf_resnet50-ranger21",
    "`model=resnet50 trainer.compile=true` (Ranger21)": "resnet50-ranger21-compiled-model",
    "`model=resnet50` (Ranger21) | 256": "resnet50-ranger21-batch256",
}


def rows(run: str) -> list[dict[str, float]]:
    text = (ROOT / "results" / "gpu" / "h200" / run / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def speeds(run: str) -> list[float]:
    return [row["perf/images_per_s"] for row in rows(run) if "perf/images_per_s" in row][1:]


@pytest.mark.parametrize("label", RUNS)
def test_a_row_of_the_table_is_what_was_recorded(label: str) -> None:
    (line,) = (li for li in (ROOT / "docs" / "gpu.md").read_text().splitlines() if li.startswith(f"| {label}"))
    numbers = [float(n.replace(",", "")) for n in re.findall(r"[\d,]+", line.partition("|")[2].split("|", 2)[2])]
    found = speeds(RUNS[label])
    assert numbers == [round(statistics.median(found)), round(min(found)), round(max(found)), len(found)]


def test_the_ratio_and_the_differences_are_what_was_recorded() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text()
    ratio = statistics.median(speeds("resnet50-ranger21")) / statistics.median(speeds("resnet50-adamw"))
    assert f"at {ratio:.2f} times the speed" in text
    once, again = ({row["step"]: row.get("train/loss") for row in rows(f"fp32-{n}")} for n in ("once", "again"))
    differences = [abs(float(once[step] or 0) - float(again[step] or 0)) for step in (5, 10, 60)]
    assert [f"{d:.0e}" if d < 1e-5 else f"{d:.1e}" for d in differences] == ["1e-07", "1.4e-04", "1.9e-03"]
    assert "1e-7 at step 5, to 1.4e-4 at step 10 and to 1.9e-3 at step 60" in text
