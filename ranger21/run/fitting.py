"""Checks that every part of a checkpoint fits the run, before any of it is loaded."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ranger21.engine.parts import Progress
from ranger21.records.checkpoint_file import AVERAGE, State
from ranger21.system.errors import UserError
from ranger21.system.wording import first_few, reason, shown
from ranger21.tracking.splits import OFFICIAL

Make = Callable[[Iterable[Tensor]], torch.optim.Optimizer]  # builds the run's optimizer for given tensors
Clauses = Iterator[str]  # only the first one is read; those after it may be wrong
SWITCHES = ("fused", "foreach", "capturable", "differentiable")  # how this machine computes a step
MOST = 2**62


def require_fits(
    state: State,
    path: Path,
    model: nn.Module,
    make: Make,
    scaler: Mapping[str, Any],
    steps: int,
    classes: int,
    watched: str = OFFICIAL,
    averaged: bool = False,
) -> None:
    """Raise a UserError if a part of the state is not what this run would have saved.

    Args:
        state: the checkpoint's state, with all parts, and with the configuration and id of this run.
        path: of the checkpoint.
        model: the model of the run, not yet restored.
        make: builds the run's optimizer for given tensors.
        scaler: the state of the run's gradient scaler.
        steps: the number of steps of the whole run.
        classes: the number of classes.
        watched: the split by which the best validation is chosen.
        averaged: whether the run keeps an average of the weights.
    """
    looks: list[Callable[[], Clauses]] = [
        lambda: numbers_amiss(state, steps, classes, watched),
        lambda: model_amiss(state["model"], model),
        lambda: average_amiss(state, model, averaged),
        lambda: scaler_amiss(state["scaler"], scaler),
        lambda: optimizer_amiss(state["optimizer"], model, make),
    ]
    for look in looks:
        try:
            wrong = next(look(), "")
        except Exception as error:  # comparing with a strange value may raise anything
            wrong = f"its contents cannot be compared with this run's ({reason(error)})"
        if wrong:
            raise UserError(
                f"This run cannot resume from the checkpoint {path}: {wrong}. Restore the run's own checkpoint, or "
                "choose another run_dir=."
            )


def numbers_amiss(state: State, steps: int, classes: int, watched: str) -> Clauses:
    """Yield what is wrong with the numbers and texts."""
    yield from progress_amiss(state["progress"], steps)
    for name in ("last", "best"):
        yield from validation_amiss(name, state["progress"].get(name, {}), state["progress"]["step"], watched)
    if not is_row(state["meter"], is_number):
        yield "its sums of the loss are not three numbers"
    if not is_row(state["nonfinite"], is_count):
        yield "its counts of skipped steps are not three numbers"
    yield from records_amiss(state)
    data = state["data"]
    if not isinstance(data, dict) or data.get("classes") != classes or not is_names(data.get("names") or []):
        yield f"it does not have {classes} classes"


def progress_amiss(progress: Any, steps: int) -> Clauses:
    """Yield what is wrong with the progress, apart from the validations in it."""
    known = {f.name for f in fields(Progress)}
    if not isinstance(progress, dict) or not {"step", "saved_step"} <= progress.keys() <= known:
        yield "its progress has missing or unexpected entries"
    step = progress["step"]
    if not is_count(step) or not 1 <= step <= steps:
        yield f"its step is {shown(step)}, but the run has steps 1 to {steps}"
    for name in ("saved_step", "logged_step", "evaluated_step"):
        if not is_count(progress.get(name, 0), step):
            yield f"its {name} is {shown(progress[name])}, but its step is {step}"
    if not is_number(progress.get("seconds", 0.0)) or progress.get("seconds", 0.0) < 0:
        yield f"its time is {shown(progress['seconds'])} seconds"
    if not isinstance(progress.get("grad_norm"), float | None):
        yield "its gradient norm is not a number"


def validation_amiss(name: str, values: Any, step: int, watched: str) -> Clauses:
    """Yield what is wrong with the metrics of a validation, which are empty before the first one."""
    good = isinstance(values, dict) and all(isinstance(key, str) for key in values)
    good = good and all(isinstance(value, int | float) for value in values.values())
    good = good and (not values or {"step", f"{watched}/acc1"} <= values.keys())
    if not good or (values and not is_count(values["step"], step)):
        yield f"the metrics of its {name} validation are not all numbers"


def records_amiss(state: State) -> Clauses:
    """Yield what is wrong with the entries for the run's records: sizes, names and lines."""
    if not is_count(state["metrics_size"]) or not is_count(state.get("substituted", 0)):
        yield "its size of metrics.jsonl, or its number of unreadable images, is not a valid number"
    if not is_names(state.get("unreadable", [])) or not isinstance(state["wandb_id"], str):
        yield "its names of unreadable images, or its id, are not strings"
    if not isinstance(state.get("metrics_rest", ""), str):
        yield "its lines for metrics.jsonl are not a string"


def is_count(value: Any, most: int = MOST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_row(values: Any, good: Callable[[Any], bool]) -> bool:
    return isinstance(values, list) and len(values) == 3 and all(map(good, values))


def is_names(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def model_amiss(weights: Any, model: nn.Module) -> Clauses:
    """Yield what is wrong with the weights."""
    if not isinstance(weights, dict):
        yield f"its model is a {type(weights).__name__}"
        return
    own = model.state_dict()
    if differ := sorted(shown(name, str) for name in own.keys() ^ weights.keys()):
        yield f"its model has missing or unexpected tensors ({first_few(differ)})"
        return
    for name, tensor in own.items():
        if isinstance(tensor, Tensor) and (unlike := kind_of(weights[name], tensor)):
            yield f"its model's {name} is {unlike}"
    for name, param in model.named_parameters():
        if name in weights and param.is_floating_point() and not weights[name].isfinite().all():
            yield f"its model's {name} has values that are not finite"


def average_amiss(state: State, model: nn.Module, averaged: bool) -> Clauses:
    """Yield what is wrong with the average of the weights."""
    if averaged and AVERAGE not in state:
        yield "it has no average of the weights (trainer.ema)"
    for clause in model_amiss(state[AVERAGE], model) if averaged else ():
        yield f"in the average of the weights, {clause}"


def kind_of(value: Any, like: Tensor) -> str:
    """Describe a value that is not a tensor of the shape and type of `like`; return "" if it is one."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}, not a tensor"
    if value.shape != like.shape or value.dtype != like.dtype or value.layout != like.layout:
        return f"{tuple(value.shape)} in {value.dtype}, not {tuple(like.shape)} in {like.dtype}"
    return ""


def scaler_amiss(saved: Any, own: Mapping[str, Any]) -> Clauses:
    """Yield what is wrong with the state of the gradient scaler."""
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        yield "its gradient scaler has missing or unexpected entries"
    elif not all(is_number(value) and value >= 0 for value in saved.values()):
        yield "its gradient scaler has values that are not numbers from 0 on"


def optimizer_amiss(saved: Any, model: nn.Module, make: Make) -> Clauses:
    """Yield what is wrong with the optimizer's state, compared with an optimizer that has taken one step."""
    if not isinstance(saved, dict) or not saved.keys() >= {"state", "param_groups"}:
        yield "its optimizer has missing or unexpected entries"
        return
    params = [nn.Parameter(torch.ones_like(p, device="cpu"), p.requires_grad) for p in model.parameters()]
    example = make(params)
    take_step(example)
    own = example.state_dict()
    groups, states = saved["param_groups"], saved["state"]
    if not isinstance(groups, list) or list(map(_params, groups)) != list(map(_params, own["param_groups"])):
        yield "its optimizer's parameter groups are not those of this run"
        return
    for mine, its in zip(own["param_groups"], groups, strict=True):
        yield from _group_amiss(its, mine)
    if not isinstance(states, dict) or not states.keys() <= own["state"].keys() or bool(states) != bool(own["state"]):
        yield "its optimizer state does not match the parameters of this run"
        return
    for number, state in states.items():
        yield from _state_amiss(number, state, own["state"][number])
    try:  # a missing entry of a group is found only when it is used
        example.load_state_dict(copy.deepcopy(saved))
        take_step(example)
    except Exception as error:
        yield f"its optimizer fails when it takes a step ({type(error).__name__}: {reason(error)})"


def take_step(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = torch.ones_like(param)
    optimizer.step()


def _params(group: Any) -> Any:
    return group.get("params") if isinstance(group, dict) else None


def _group_amiss(saved: dict[str, Any], own: Mapping[str, Any]) -> Clauses:
    """Yield what is wrong with the settings of a parameter group, which come from the configuration."""
    for key in saved.keys() & own.keys() - {"params"}:
        its, mine = plain(saved[key]), plain(own[key])
        if isinstance(mine, Tensor):  # a counter of steps
            if not isinstance(its, Tensor) or its.shape != mine.shape:
                yield f"its optimizer's {key} is not a tensor of shape {tuple(mine.shape)}"
        elif key in SWITCHES:
            if not isinstance(its, bool | None):
                yield f"its optimizer's {key} is {shown(its)}"
        elif key == "lr" or is_nested(mine):
            if type(its) is not type(mine):
                yield f"its optimizer's {key} is {shown(its)}"
        elif isinstance(its, Tensor) or its != mine:
            yield f"its optimizer's {key} is {shown(its)}, not {shown(mine)}"


def is_nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, list | dict) for one in value))


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _state_amiss(number: int, saved: Any, own: Mapping[str, Any]) -> Clauses:
    """Yield what is wrong with the optimizer's state of one tensor."""
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        yield f"its optimizer state of tensor {number} has missing or unexpected entries"
        return
    for key, mine in own.items():
        its = saved[key]
        if isinstance(mine, Tensor):
            if unlike := kind_of(its, mine):
                yield f"its optimizer's {key} of tensor {number} is {unlike}"
        elif mine is not None and not (is_count(its) if isinstance(mine, int) else is_number(its)):
            yield f"its optimizer's {key} of tensor {number} is {shown(its)}"
