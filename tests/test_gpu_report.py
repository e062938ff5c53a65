"""The tables of docs/gpu.md match the computed ones; no kernel spills registers on any kind of GPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.project import ROOT

from ranger21.gpu import report, tables
from ranger21.gpu.fused import CASES

pytest.importorskip("triton")


COMPILED = ["float32, global, scaler", "bfloat16, Kahan", "AdamW's chain, bfloat16"]  # the script compiles all cases


def page() -> str:
    return (ROOT / "docs" / "gpu.md").read_text()


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]


def test_the_docs_show_the_computed_launches_passes_and_times() -> None:
    found = report.counted()
    for name, content in found.items():
        assert tables.section(page(), name) == content, "python scripts/fused_report.py --write"
    (cost,) = [row for row in rows(found["steps"]) if row[0] == report.FUSED]
    assert all(int(launches) <= 4 for launches in cost[1::2]) and all(float(passes) <= 14.5 for passes in cost[2::2])
    (all_together,) = [row for row in rows(found["steps"]) if "global" in row[0]]
    assert all(int(launches) <= 4 for launches in all_together[1::2])


def test_no_kernel_spills_registers_or_uses_atomics() -> None:
    """The number of registers depends on Triton's version, which the docs name. This must hold with every version."""
    code = f"from ranger21.gpu import report; print(report.kernels({COMPILED}))"
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"} | {"PYTHONPATH": str(ROOT)}
    architectures = ["sm_75", "sm_80", "sm_90", "sm_100", "gfx942"]
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heads, _, *kernels = rows(done.stdout.strip())
    assert heads[1:-3] == architectures and len(kernels) == 3 * len(COMPILED)
    assert {(row[-3], row[-2]) for row in kernels} == {("0", "0")}, done.stdout
    told = rows(tables.section(page(), "kernels"))[2:]
    assert {row[0] for row in kernels} <= {row[0] for row in told} and len(told) == 3 * len(CASES)
    assert {(row[-3], row[-2]) for row in told} == {("0", "0")}
    assert all(0 < int(registers) <= 255 for row in kernels for registers in row[1:-3])
