"""From an optimizer's or schedule's name and arguments to the thing itself."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ranger21.optim import schedules
from ranger21.optim.ranger21 import Ranger21

Schedule = Callable[[int, int], float]


def decays(param: Tensor) -> bool:
    """Whether a parameter is decayed by default: weights are; biases, norm scales and gains are not.

    That is, tensors of fewer than two axes or of single-element units are left out. The paper does not say; leaving
    them out for every optimizer alike keeps comparisons fair.
    """
    return param.ndim >= 2 and param.numel() > param.shape[0]


def parameter_groups(params: Iterable[Tensor], weight_decay: float, decay_norm_and_bias: bool) -> list[dict[str, Any]]:
    """Two groups, decayed and not, of the parameters that are trained; a group without any is left out."""
    trained = [p for p in params if p.requires_grad]
    decayed = [p for p in trained if decay_norm_and_bias or decays(p)]
    known = {id(p) for p in decayed}
    others = [p for p in trained if id(p) not in known]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_optimizer(
    name: str, params: Iterable[Tensor], *, lr: float, weight_decay: float, decay_norm_and_bias: bool, **kwargs: Any
) -> torch.optim.Optimizer:
    """The optimizer `name`: ranger21; adamw and nesterov are torch's, fused where torch has that for the device.

    Every group also carries `initial_lr`, which a schedule multiplies.
    """
    groups = parameter_groups(params, weight_decay, decay_norm_and_bias)
    device = groups[0]["params"][0].device.type
    fused = device in ("cpu", "cuda")
    optimizer: torch.optim.Optimizer
    if name == "ranger21":
        optimizer = Ranger21(groups, lr=lr, **kwargs)
    elif name == "adamw":
        optimizer = torch.optim.AdamW(groups, lr=lr, fused=fused, **kwargs)
    elif name == "nesterov":
        optimizer = torch.optim.SGD(groups, lr=lr, nesterov=True, fused=fused, **kwargs)
    else:
        raise ValueError(f"There is no optimizer {name!r}.")
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return optimizer


def build_schedule(name: str, **kwargs: Any) -> Schedule:
    """The multiplier of the learning rate as a function of (step, total_steps)."""
    return functools.partial(getattr(schedules, name), **kwargs)
