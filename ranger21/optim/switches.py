"""How a step is computed, named as torch names it: the arguments that every optimizer of ours has, and their checks."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ranger21.optim.ingredients.base import is_number

SWITCHES: dict[str, bool | None] = {
    "maximize": False,
    "foreach": None,
    "fused": None,
    "capturable": False,
    "differentiable": False,
    "kahan_sum": None,
}
ZERO = "torch.distributed.optim.zero_redundancy_optimizer"
GONE = ("compile",)  # of groups in files of earlier versions: a step that was compiled differs by rounding alone


def wrong_switch(group: Mapping[str, Any]) -> str:
    """Return what is wrong with the switches of a group, as the rest of a sentence; empty: nothing."""
    for name, default in SWITCHES.items():
        value, choices = group[name], (True, False, None) if default is None else (True, False)
        if not isinstance(value, bool | None) or value not in choices:
            return f"{name} = {value!r} must be {', '.join(map(str, choices[:-1]))} or {choices[-1]}."
    if group["fused"] and group["foreach"]:
        return "fused = True and foreach = True exclude each other, as in torch's optimizers."
    if group["differentiable"]:
        return "differentiable = True must be False: the step writes to weights and state in place, without a graph."
    return ""


def is_rate(value: Any) -> bool:
    """Whether a value can be a learning rate: a number of at least 0, or a tensor of one element, which is not read."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_complex()
    return is_number(value) and value >= 0


def require_no_capture(otherwise: str) -> None:
    """Raise a RuntimeError if a CUDA graph is being captured, in which counts on the host would stand still."""
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        raise RuntimeError(f"A CUDA graph cannot capture this step, whose count of steps is on the host: {otherwise}.")


def hidden(sees: str, param: Tensor) -> str:
    """Return what keeps an ingredient from seeing what it must see whole, as a clause; empty: nothing is known to."""
    if sees and (getattr(param, "_is_flat_param", False) or getattr(param, "_fsdp_flattened", False)):
        return "FullyShardedDataParallel flattens the parameters: use fully_shard"
    if sees == "all parameters" and is_called_by(ZERO):
        return "ZeroRedundancyOptimizer gives each process a share of the parameters: use fully_shard"
    return ""


def is_called_by(module: str) -> bool:
    """Whether a function of this module is on the stack."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame is not None
