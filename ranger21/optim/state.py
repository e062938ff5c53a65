"""Create, check and load the optimizer state of parameters, and pass it to a step."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ranger21.optim.buckets import Group, Memory
from ranger21.optim.ingredients import LATE_STATE
from ranger21.optim.ingredients.base import to_python
from ranger21.optim.precision import HALF, KAHAN, HalfStep, state_dtype
from ranger21.optim.recipe import Recipe
from ranger21.optim.step import Step
from ranger21.optim.switches import REMOVED
from ranger21.optim.tensors import Tensors

if TYPE_CHECKING:
    from ranger21.optim.chain import Chain

State = dict[str, Any]


def prepare(param: Tensor, state: State, recipe: Recipe, group: Group, fused: bool) -> None:
    """Advance the step count of a parameter, and create the state tensors that it lacks.

    With `fused`, the count only moves to the device: the kernels advance it.
    """
    count = state.get("step", 0)
    if fused or group["capturable"]:
        if not isinstance(count, Tensor):
            count = torch.full((), count, dtype=torch.float32, device=param.device)
        count = count.to(param.device, torch.float32)
    elif isinstance(count, Tensor):
        count = int(count)
    for name in [name for name in recipe.keeps if name not in state]:
        state[name] = recipe.keeps[name].start(name, param.detach().to(state_dtype(param)))
    for name in recipe.drops:
        state.pop(name, None)
    if param.dtype in HALF and group["kahan_sum"] is not False:
        if KAHAN not in state:
            state[KAHAN] = torch.zeros_like(param, memory_format=torch.preserve_format)
    elif KAHAN in state:
        del state[KAHAN]
    if isinstance(count, Tensor):  # in place, because a CUDA graph refers to its address
        state["step"] = count if fused else count.add_(1)
    else:
        state["step"] = count + 1


def count_on_host(states: dict[Any, State], numbers: list[Any]) -> None:
    """Replace step counts that are tensors by ints, in the states of the given parameter numbers."""
    counted = [i for i in numbers if isinstance(states[i].get("step"), Tensor)]
    if counted:
        counts = torch.stack([states[i]["step"].reshape(()).cpu() for i in counted]).tolist()
        for i, count in zip(counted, counts, strict=True):
            states[i] = states[i] | {"step": int(count)}


def require_state(state: State, recipe: Recipe) -> None:
    """Raise a RuntimeError if a moment would start in mid-run, where its bias correction would be wrong."""
    if wrong := missing_state(state, recipe):
        raise RuntimeError(f"An ingredient cannot be switched on in mid-run: {wrong}. Create a new optimizer instead.")


def missing_state(state: State, recipe: Recipe) -> str:
    """Return which moments or step count a non-empty state lacks, as a clause, or an empty string."""
    moments = [name for name in recipe.keeps if name not in LATE_STATE]
    lacks = [name for name in (*moments, "step") if name not in state]
    if not moments or not lacks or not state.keys() - LATE_STATE - {KAHAN}:
        return ""
    count = to_python(state.get("step", "unknown"))
    return f"the state has {', '.join(state)} at step {count}, but not {', '.join(lacks)}"


def step_of(params: Tensors, states: list[State], recipe: Recipe, group: Group, memory: Memory) -> Step:
    """Return the step of a bucket of parameters."""
    count, rate, capturable = states[0]["step"], group["lr"], group["capturable"]
    grads = [param.grad for param in params if param.grad is not None]
    if group["maximize"]:
        grads = list(torch._foreach_neg(grads))
    if isinstance(rate, Tensor):
        rate = rate.to(params[0].device).reshape(()) if capturable or rate.device.type != "cpu" else rate.item()
    half = params[0].dtype in HALF
    if not half:
        grads = [grad if grad.dtype == params[0].dtype else grad.to(params[0].dtype) for grad in grads]
    spares = [] if recipe.keeps_gradient or half else memory.spares(params)
    state = {name: [state[name] for state in states] for name in recipe.keeps}
    rest = (state, count.double() if capturable else count, rate, group["weight_decay"], spares)
    if not half:
        return Step(recipe, params, grads, *rest)
    return HalfStep(recipe, params, grads, *rest, lost=[state[KAHAN] for state in states if KAHAN in state])


def shape_mismatch(param: Tensor, state: State, names: Iterable[str]) -> str:
    """Return which state tensor differs in shape from the parameter, as a clause, or an empty string."""
    for name in names:
        if name in state and state[name].shape != param.shape:
            return f"{name} has the shape {tuple(state[name].shape)}, but the parameter has {tuple(param.shape)}"
    return ""


def restore(optimizer: "Chain", saved: dict[str, Any]) -> None:
    """Complete the state that torch has loaded: fill in and check the groups, and restore float32 moments.

    Torch casts the state to the parameter's dtype, which would round moments that are kept in float32.

    Raises:
        ValueError: If the state is that of a different optimizer or model.
    """
    for group in optimizer.param_groups:
        for name in REMOVED:
            group.pop(name, None)
        group |= {name: value for name, value in optimizer.defaults.items() if name not in group}
        optimizer.validate_group(group)
    numbers: dict[Tensor, Any] = {}
    for ours, theirs in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        numbers |= dict(zip(ours["params"], theirs["params"], strict=True))
    for recipe, params in (pair for group in optimizer.param_groups for pair in optimizer.recipes(group)):
        for param in params:
            state = saved["state"].get(numbers[param], {})
            if wrong := missing_state(state, recipe) or shape_mismatch(param, state, (*recipe.keeps, KAHAN)):
                name = f"{type(optimizer).__name__} cannot continue from this state: for parameter {numbers[param]},"
                raise ValueError(f"{name} {wrong}.")
            if param.dtype in HALF:
                kept = {name: state[name] for name in recipe.keeps if name in state}
                optimizer.state[param] |= {name: x.to(param.device, torch.float32).clone() for name, x in kept.items()}
