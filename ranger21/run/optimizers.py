"""Builds optimizers (ours, torch's and timm's), schedules and scaled learning rates from the configuration."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from timm import optim as timm_optim
from torch import Tensor

from ranger21.config.schedules import LINEAR_WARMUP, LinearThenSqrtConfig, LrScalingConfig, ScaledConfig, ScheduleConfig
from ranger21.engine.course import Course
from ranger21.optim.chain import Chain
from ranger21.optim.groups import parameter_groups
from ranger21.optim.lookahead import Lookahead
from ranger21.optim.official import Ranger21Official
from ranger21.optim.ranger21 import Ranger21
from ranger21.optim.schedules import BASE_RATE, SCHEDULES, Length, Schedule, after_warmup, arguments
from ranger21.run.plan import in_steps
from ranger21.system.errors import UserError

OURS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "ranger21": Ranger21,
    "ranger": Chain,
    "rangerlars": Chain,
    "paratrooper": Chain,
    "muon": Chain,
    "chain": Chain,
}
FUSED: dict[
    str, Callable[..., torch.optim.Optimizer]
] = {  # torch's optimizers with a fused step on the CPU and on CUDA
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
    "gd": torch.optim.SGD,
    "momentum": torch.optim.SGD,
    "nesterov": functools.partial(torch.optim.SGD, nesterov=True),
}
OTHERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "radam": torch.optim.RAdam,
    "adadelta": torch.optim.Adadelta,
    "rmsprop": torch.optim.RMSprop,
    "sgdw": timm_optim.SGDW,
    "lars": timm_optim.Lars,
    "larc": functools.partial(timm_optim.Lars, trust_clip=True),
    "lamb": timm_optim.Lamb,
    "lion": timm_optim.Lion,
}


def build_optimizer(
    name: str,
    params: Iterable[Tensor],
    *,
    lr: float,
    weight_decay: float,
    decay_norm_and_bias: bool,
    layer_scales: Sequence[float] | None = None,
    lookahead_k: int = 0,
    lookahead_beta: float = 0.5,
    **kwargs: Any,
) -> torch.optim.Optimizer:
    """Return the optimizer `name`. Every parameter group also has `initial_lr`, which a schedule multiplies.

    `layer_scales` has a factor of the learning rate for each of the parameters. The groups with the highest rate come
    first.

    Torch's optimizers use their fused step where torch has one for the device. Lookahead wraps torch's and timm's
    optimizers; ours include it.
    """
    lookahead: dict[str, Any] = {"lookahead_k": lookahead_k, "lookahead_beta": lookahead_beta}
    optimizer: torch.optim.Optimizer
    if name == "ranger21_official":  # its decay requires a single group
        trained = [p for p in params if p.requires_grad]
        optimizer = Ranger21Official(trained, lr, weight_decay=weight_decay, **lookahead, **kwargs)
    else:
        params = list(params)
        groups = parameter_groups(params, weight_decay, decay_norm_and_bias)
        if layer_scales is not None:
            groups = by_layer(groups, lr, {id(p): scale for p, scale in zip(params, layer_scales, strict=True)})
        if name in OURS:
            optimizer = ours(name, groups, lr=lr, **(lookahead if name == "ranger21" else {}), **kwargs)
        elif name in FUSED:
            fused = groups[0]["params"][0].device.type in ("cpu", "cuda")
            optimizer = FUSED[name](groups, lr=lr, fused=fused, **kwargs)
            if isinstance(optimizer, torch.optim.SGD):  # its fused step ruins the momentum when fp16 overflows
                optimizer._step_supports_amp_scaling = False  # then the gradient scaler itself skips the step
        elif name in OTHERS:
            optimizer = OTHERS[name](groups, lr=lr, **kwargs)
        else:
            raise ValueError(f"There is no optimizer {name!r}.")
        if lookahead_k and name not in OURS:
            optimizer = Lookahead(optimizer, lookahead_k, lookahead_beta)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return optimizer


def by_layer(groups: list[dict[str, Any]], lr: float, scales: Mapping[int, float]) -> list[dict[str, Any]]:
    """Split parameter groups by the factor of the learning rate, the highest first. `scales` has it by `id`."""
    split = [
        {**group, "lr": lr * scale, "params": [param for param in group["params"] if scales[id(param)] == scale]}
        for scale in sorted(set(scales.values()), reverse=True)
        for group in groups
    ]
    return [group for group in split if group["params"]]


def ours(name: str, groups: list[dict[str, Any]], fused: bool | None = None, **kwargs: Any) -> torch.optim.Optimizer:
    """Return one of this project's optimizers. Raises a UserError if the fused step is requested but unavailable."""
    try:
        return OURS[name](groups, fused=fused, **kwargs)
    except ValueError as error:
        if not fused:
            raise
        raise UserError(
            f"optimizer.fused=true: {error} Omit it: the default, null, uses the fused step where it can."
        ) from error


def scaled_lr(lr: float, scaling: LrScalingConfig, batch_size: int) -> float:
    """Return the learning rate scaled to a batch size."""
    if not isinstance(scaling, ScaledConfig):
        return lr
    ratio = batch_size / scaling.base_batch_size
    if scaling.name == "linear":
        return lr * ratio
    if isinstance(scaling, LinearThenSqrtConfig):
        until = scaling.linear_until / scaling.base_batch_size
        return lr * (ratio if ratio <= until else math.sqrt(ratio * until))
    return lr * math.sqrt(ratio)


def build_schedule(config: ScheduleConfig, course: Course, lr_scale: float = 1.0) -> Schedule:
    """Return the multiplier of the learning rate as a function of (step, total_steps).

    Durations are converted to steps of this run. `lr_scale` is the factor of `lr_scaling`, for schedules that use the
    base rate. Raises a UserError for a warm-up as long as the run, and for a duration in epochs or images that has no
    fixed length in steps.
    """
    values = asdict(config)
    name, text = values.pop("name"), values.pop("linear_warmup")
    total = course.total_steps
    warmup = in_steps("schedule.linear_warmup", text, LINEAR_WARMUP, course, total)
    span = total - math.ceil(warmup)
    if span < 1:
        raise UserError(f"schedule.linear_warmup={text} takes the whole run of {total} steps: shorten it.")
    shares: dict[str, float] = {}
    for key, (_, mark) in arguments(SCHEDULES[name]).items():
        if isinstance(mark, Length) and mark.share:
            shares[key] = in_steps(f"schedule.{key}", values[key], mark, course, span) / span
        elif isinstance(mark, Length):
            values[key] = max(1.0, in_steps(f"schedule.{key}", values[key], mark, course, span))
        elif mark is BASE_RATE:
            values[key] *= lr_scale
    if sum(shares.values()) > 1 + 1e-9:
        told = " and ".join(f"schedule.{key}={values[key]}" for key in shares)
        raise UserError(f"{told} are too long: together they take more than the {span} steps of the schedule.")
    values |= shares
    return after_warmup(functools.partial(SCHEDULES[name], **values), warmup)
