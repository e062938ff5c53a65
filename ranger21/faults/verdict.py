"""What a campaign has shown: which faults were recovered, and whether the runs are as if nothing had been."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ranger21.faults import harm, plan
from ranger21.faults.plan import Leg
from ranger21.faults.session import SENTENCES, TRACEBACK, Record


@dataclass(frozen=True)
class Likeness:
    """A run beside the undisturbed one."""

    finished: bool
    weights: float  # the largest absolute difference of a weight; infinite if they cannot be compared
    state: bool  # the optimizer's state, the progress and best.pt are the same, too
    metrics: bool

    def same(self, tolerance: float) -> bool:
        """As it must be: to the last bit, or within the tolerance."""
        return self.finished and self.weights <= tolerance and self.metrics and (self.state or tolerance > 0)


@dataclass(frozen=True)
class Judged:
    """A fault, and what became of it."""

    leg: str
    kind: str
    run: int
    step: int
    repeated: int  # steps that were made again because of it
    mistake: str = ""  # what was not as it should be


def difference(one: Any, other: Any) -> float:
    """The largest absolute difference of two trees of tensors; infinite where anything else differs."""
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
    """The lines of metrics.jsonl without those values that tell how fast the machine was; None if it is broken."""
    try:
        lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):
        return None
    return [{k: v for k, v in line.items() if k != "time" and not k.startswith("perf/")} for line in lines]


def compare(directory: Path, reference: Path, tolerance: float) -> Likeness:
    """The run in `directory` beside the undisturbed one in `reference`."""
    finished = (directory / "result.json").exists()
    states = [[harm.whole(place / "checkpoints" / f"{name}.pt") for place in (directory, reference)]
              for name in ("last", "best")]  # fmt: skip
    if not all(state for pair in states for state in pair):
        return Likeness(finished, math.inf, False, False)
    (one, other), (best, best_there) = states
    assert one and other and best and best_there
    rest = [[state["optimizer"], state["scaler"], *(state["progress"][k] for k in ("step", "best", "last"))]
            for state in (one, other)]  # fmt: skip
    state = difference(*rest) == 0.0 and difference(best["model"], best_there["model"]) == 0.0
    mine, there = repeatable(directory), repeatable(reference)
    if tolerance and mine and there:  # the same lines; their numbers are those of other weights
        mine, there = ([{"step": line.get("step")} for line in lines] for lines in (mine, there))
    return Likeness(finished, difference(one["model"], other["model"]), state, mine is not None and mine == there)


def judge(leg: Leg, records: list[Record]) -> list[Judged]:
    """What became of every fault of one run, whose sessions these are, in their order."""
    judged = []
    for place, record in enumerate(records):
        later = records[place + 1 :]
        last = len(record.faults) - 1
        for number, fault in enumerate(record.faults):
            kind, step = fault["kind"], fault["step"]
            if kind in (*plan.DAMAGES, plan.RANKS_CHANGED):
                repeated = record.lost if kind in (plan.CUT, plan.FLIPPED) else 0
                mistake = _went_on(records[place:]) or _said(kind, record, record.resumed is not None)
            elif kind in (plan.WORKER_KILLED, plan.WANDB_KILLED):
                repeated = 0
                mistake = _survived(record, step, ended=number == last)
                noticed = step + plan.NOTICED + (plan.EVAL_EVERY if kind == plan.WORKER_KILLED else 0)
                mistake = mistake or _said(kind, record, record.reached > noticed)
            else:
                repeated = 0 if record.finished else record.reached - record.saved
                mistake = _ended_well(kind, record, repeated) or ("" if record.finished else _went_on(later))
            if not mistake and not records[-1].finished:
                mistake = "the run never finished"
            judged.append(Judged(leg.name, kind, record.run, step, repeated, mistake))
        if not record.finished and not {fault["kind"] for fault in record.faults} & {*leg.endings}:
            mistake = f"ended with {record.codes}, though nothing had hit it"
            judged.append(Judged(leg.name, plan.ENDED, record.run, record.reached, 0, mistake))
    return judged


def _went_on(records: list[Record]) -> str:
    """What is wrong with how the first of these sessions that came so far went on."""
    for record in records:
        if record.resumed is not None:
            right = record.resumed == record.newest
            return (
                "" if right else f"went on from step {record.resumed}, not from the newest whole one, {record.newest}"
            )
        if record.finished:
            return ""
    return "no session went on"


def _survived(record: Record, step: int, ended: bool) -> str:
    """What is wrong with a session that should have gone on; `ended`: nothing else hit it afterwards."""
    if record.hung or (ended and any(record.codes) and not record.finished):
        return f"the run ended with {record.codes}" if not record.hung else "the run hung"
    return "" if record.finished or record.reached > step else "no step was made afterwards"


def _said(kind: str, record: Record, due: bool) -> str:
    """What is wrong if a session had its time and did not say what had happened."""
    words = SENTENCES.get(kind)
    return f"was not told: nothing of {words!r}" if due and words and words not in record.told else ""


def _ended_well(kind: str, record: Record, repeated: int) -> str:
    """What is wrong with how a session ended and what it left behind."""
    codes, stops = set(record.codes), kind in (plan.SIGTERM, plan.SIGUSR1)
    if record.hung:
        return "the run hung"
    if record.left_behind:
        return f"left behind: {', '.join(record.left_behind)}"
    if record.ended_by_us:
        return f"{record.ended_by_us} of {record.ranks} ranks did not end when another had gone"
    if record.finished or (record.resumed is None and any(codes)):
        return ""
    if stops and (codes != {143} or repeated):
        return f"ended with {record.codes}, {repeated} steps after its last checkpoint"
    if kind == plan.DISK_FULL and codes != {1}:
        return f"ended with {record.codes}"
    if kind in (plan.SIGKILL, plan.RANK_KILLED) and -9 not in codes:
        return f"ended with {record.codes}"
    if (stops or kind == plan.DISK_FULL) and TRACEBACK in record.told:
        return "showed a traceback"
    lost = "" if repeated <= plan.SAVE_EVERY else f"{repeated} steps were lost"
    return _said(kind, record, due=True) or lost


def spread(values: list[int]) -> str:
    """Median and largest."""
    return f"{statistics.median(values):g} / {max(values)}"
