"""Checkpoint states for tests that need no run."""

from __future__ import annotations

from typing import Any

import torch

from ranger21.records.checkpoint_file import State


def make_state(step: int, numbers: int = 12) -> State:
    """Return the state of a checkpoint whose tensors are all filled with `step`."""
    return {
        "model": {"weight": torch.full((numbers,), float(step)), "count": torch.tensor(step)},
        "optimizer": {"state": {0: {"half": torch.full((3, 2), step, dtype=torch.bfloat16)}}, "groups": [{"lr": 0.1}]},
        "progress": {"step": step, "seconds": 1.5, "best": {"val/acc1": 12.5}},
        "id": "abc",
        "nothing": None,
        "config": {"pnm": True, "betas": [0.9, 0.999]},
    }


def same_state(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same_state(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and one == other
