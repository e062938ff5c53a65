"""The arguments that choose how a step is computed, named as in torch's optimizers, and their checks."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ranger21.optim.ranges import LEARNING_RATE

SWITCHES: dict[str, bool | None] = {
    "maximize": False,
    "foreach": None,
    "fused": None,
    "capturable": False,
    "differentiable": False,
    "kahan_sum": None,
}
ZERO_REDUNDANCY = "torch.distributed.optim.zero_redundancy_optimizer"
REMOVED = ("compile",)  # group settings of older checkpoints: a compiled step differed by rounding only


def wrong_switch(group: Mapping[str, Any]) -> str:
    """Return a sentence about the first invalid switch of a group, or an empty string."""
    for name, default in SWITCHES.items():
        value, choices = group[name], (True, False, None) if default is None else (True, False)
        if not isinstance(value, bool | None) or value not in choices:
            return f"{name} = {value!r} must be {', '.join(map(str, choices[:-1]))} or {choices[-1]}."
    if group["fused"] and group["foreach"]:
        return "fused = True and foreach = True exclude each other, as in torch's optimizers."
    if group["differentiable"]:
        return "differentiable = True must be False, because the step changes weights and state in place."
    return ""


def misspelt(group: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return a sentence about the first key of a group that resembles an argument, or an empty string.

    Other unknown keys are allowed, as in torch: a caller's own, such as "name", or a scheduler's "initial_lr".
    """
    for key in group.keys() - known.keys() - {"params", "param_names"}:
        if near := difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.85):
            return f"a parameter group has the unknown key {key!r}. Did you mean {near[0]!r}?"
    return ""


def is_rate(value: Any) -> bool:
    """Return whether a value can be a learning rate: a number of at least 0, or a one-element tensor.

    The value of a tensor is not checked, because reading it would synchronize with the device.
    """
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return LEARNING_RATE.has(value)


def require_no_capture(otherwise: str) -> None:
    """Raise a RuntimeError during CUDA graph capture, because replays would not advance a step count on the host.

    Args:
        otherwise: What the user can do instead, as an imperative clause.
    """
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(f"A CUDA graph cannot capture this step, because it counts on the host: {otherwise}.")


def why_not_whole(sees: str, param: Tensor) -> str:
    """Return why an ingredient cannot see `sees` whole, as a clause, or an empty string if no reason is known."""
    if sees and (getattr(param, "_is_flat_param", False) or getattr(param, "_fsdp_flattened", False)):
        return "FullyShardedDataParallel flattens the parameters; use fully_shard instead"
    if sees == "all parameters" and is_called_by(ZERO_REDUNDANCY):
        return "ZeroRedundancyOptimizer gives each rank only some of the parameters; use fully_shard instead"
    return ""


def is_called_by(module: str) -> bool:
    """Return whether a function of this module is on the call stack."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame is not None
