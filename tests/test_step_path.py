"""A limit on the number of functions and files that one optimizer step runs through, and a reader must follow."""

from __future__ import annotations

import sys
from typing import Any

import torch
from support.project import ROOT
from torch.nn import Parameter

from ranger21 import Ranger21

BEFORE = (58, 6)  # functions and files of the previous engine
OPTIM = str(ROOT / "ranger21" / "optim")


def passed_through(steps: int = 5) -> set[tuple[str, str]]:
    """Return the files and functions that the last step, a lookahead merge, runs; comprehensions are not counted."""
    param, found = Parameter(torch.ones(3, 4)), set()
    optimizer = Ranger21([param])

    def note(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OPTIM) and "<" not in code.co_name:
            found.add((code.co_filename, f"{code.co_firstlineno} {code.co_name}"))

    for step in range(steps):
        param.grad = torch.eye(3, 4)
        sys.setprofile(note if step == steps - 1 else None)
        try:
            optimizer.step()
        finally:
            sys.setprofile(None)
    return found


def test_a_step_runs_through_no_more_code_than_before() -> None:
    """Six of the files are the ingredients, one file each."""
    found = passed_through()
    files = {file for file, _ in found}
    ingredients = {file for file in files if "/ingredients/" in file and not file.endswith("base.py")}
    assert len(found) <= BEFORE[0], sorted(found)
    assert len(ingredients) == 6 and len(files - ingredients) <= BEFORE[1] + 4, sorted(files)


def test_the_driver_names_no_ingredient() -> None:
    from ranger21.optim.ingredients import ALL

    for name in ("chain", "recipe", "step", "buckets", "precision", "state", "switches", "tensors"):
        source = (ROOT / "ranger21" / "optim" / f"{name}.py").read_text()
        code = "\n".join(
            line for line in source.split('"""')[::2] for line in line.splitlines() if "import" not in line
        )
        classes = [one.__name__ for one in ALL if f"{one.__name__}(" in code or f", {one.__name__})" in code]
        assert not classes, (name, classes)
