"""Judging of a campaign: which faults were recovered, and whether the runs agree with the undisturbed run."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ranger21.faults import whole
from ranger21.faults.kinds import SessionRecord
from ranger21.faults.listing import BY_ITSELF, BY_NAME
from ranger21.faults.setups import Leg


@dataclass(frozen=True)
class Likeness:
    """The comparison of a run with the undisturbed run."""

    finished: bool
    weights: float  # largest absolute difference of a weight; infinite if they cannot be compared
    state: bool  # whether the optimizer's state, the progress and best.pt are the same
    metrics: bool  # whether the metrics are the same

    def same(self, tolerance: float) -> bool:
        """Return whether the run agrees: bit for bit, or with a tolerance > 0, within it."""
        return self.finished and self.weights <= tolerance and self.metrics and (self.state or tolerance > 0)


@dataclass(frozen=True)
class Judged:
    """A fault and its result."""

    leg: str
    kind: str
    run: int
    step: int
    repeated: int  # steps repeated because of the fault
    mistake: str = ""  # what went wrong; empty: recovered
    commit: str = ""


def difference(one: Any, other: Any) -> float:
    """Return the largest absolute difference of two trees of tensors; infinite if anything else differs."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return math.inf
        if torch.equal(one, other):
            return 0.0
        gap = (one.double() - other.double()).abs().max().item()
        return gap if math.isfinite(gap) else math.inf
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((difference(one[key], other[key]) for key in one), default=0.0)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    return 0.0 if type(one) is type(other) and one == other else math.inf


def repeatable(directory: Path) -> list[dict[str, Any]] | None:
    """Return the lines of metrics.jsonl without times and speeds; None if the file is damaged."""
    try:
        lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return None
    return [{k: v for k, v in line.items() if k != "time" and not k.startswith("perf/")} for line in lines]


def compare(directory: Path, reference: Path, tolerance: float) -> Likeness:
    """Compare the run in `directory` with the undisturbed one in `reference`."""
    finished = (directory / "result.json").exists()
    states = [[whole.state(place / "checkpoints" / f"{name}.pt") for place in (directory, reference)]
              for name in ("last", "best")]  # fmt: skip
    if not all(state for pair in states for state in pair):
        return Likeness(finished, math.inf, False, False)
    (one, other), (best, best_there) = states
    assert one and other and best and best_there
    rest = [[state["optimizer"], state["scaler"], *(state["progress"][k] for k in ("step", "best", "last"))]
            for state in (one, other)]  # fmt: skip
    state = difference(*rest) == 0.0 and difference(best["model"], best_there["model"]) == 0.0
    mine, there = repeatable(directory), repeatable(reference)
    if tolerance and mine and there:  # compare the steps only, because the weights may differ
        mine, there = ([{"step": line.get("step")} for line in lines] for lines in (mine, there))
    return Likeness(finished, difference(one["model"], other["model"]), state, mine is not None and mine == there)


def judge(leg: Leg, records: list[SessionRecord]) -> list[Judged]:
    """Judge every fault of one run from its sessions in order."""
    judged = []
    for place, record in enumerate(records):
        kinds = [BY_NAME[fault["kind"]] for fault in record.faults]
        for kind, fault in zip(kinds, record.faults, strict=True):
            repeated, mistake = kind.judge(fault, record, records[place + 1 :])
            if not mistake and not records[-1].finished:
                mistake = "the run never finished"
            judged.append(Judged(leg.name, kind.name, record.run, fault["step"], repeated, mistake, record.commit))
        wrong = []
        if not record.finished and not any(kind.ends for kind in kinds):
            wrong.append(f"ended with {record.codes}, although no fault had hit it")
        if record.leftovers:
            wrong.append(f"left files behind: {', '.join(record.leftovers)}")
        judged += [Judged(leg.name, BY_ITSELF, record.run, record.reached, 0, text, record.commit) for text in wrong]
    return judged


def spread(values: list[int]) -> str:
    """Return median and maximum as text."""
    return f"{statistics.median(values):g} / {max(values)}"
