"""The step in three launches of Triton kernels, for tensors on a GPU: `fused=None | True | False` of every chain."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from ranger21.optim.buckets import Group
from ranger21.optim.fused.algorithm import Algorithm, read
from ranger21.optim.fused.step import FusedStep, State
from ranger21.optim.fused.tables import Tables, is_of_rows
from ranger21.optim.recipe import Recipe
from ranger21.optim.tensors import Tensors, is_plain

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def wanted(group: Group, recipe: Recipe, params: Tensors) -> bool:
    """Whether the parameters are to have the fused step: asked for, or left open, on a GPU and possible.

    Raises:
        ValueError: it is asked for and cannot be, telling why.
    """
    if group["fused"] is False or not params:
        return False
    if group["fused"]:
        if why := refusal(group, recipe, params):
            raise ValueError(f"fused = True must be None or False here: {why}.")
        return True
    on_gpu = all(param.device.type == "cuda" for param in params)
    return group["foreach"] is None and on_gpu and not refusal(group, recipe, params)


def refusal(group: Group, recipe: Recipe, params: Tensors) -> str:
    """Return why parameters cannot have the fused step, as the rest of a sentence; empty: they can."""
    if group["capturable"]:
        return "a CUDA graph (capturable = True) would look for gradients where they were when it was captured"
    if read(recipe) is None:
        chain = ", ".join(one.name for one in recipe.ingredients)
        return f"it is Algorithm 4, or less of it in its order, and not {chain}"
    if not has_triton():
        return "triton is not installed"
    return next((why for param in params if (why := amiss(param))), "")


@lru_cache
def has_triton() -> bool:
    """Whether Triton can be imported, which takes a second."""
    try:
        from ranger21.optim.fused import kernels  # noqa: F401
    except ImportError:
        return False
    return True


@lru_cache
def device_type() -> str:
    """Return where the kernels run: on the CPU if TRITON_INTERPRET was 1 when Triton was imported."""
    from ranger21.optim.fused import kernels

    return "cpu" if kernels.INTERPRETED else "cuda"


def amiss(param: Tensor) -> str:
    """Return why the kernels cannot step a parameter, as the rest of a sentence; empty: they can."""
    device, shape, grad = param.device.type, tuple(param.shape), param.grad
    told = f"a parameter of shape {shape} is"
    if device != device_type():
        return f"{told} on {param.device}, and Triton's kernels need a GPU, or TRITON_INTERPRET=1 and the CPU"
    if param.dtype not in DTYPES:
        return f"{told} in {str(param.dtype).removeprefix('torch.')}"
    if not is_plain(param):
        return f"{told} a {type(param).__name__}"
    if not is_of_rows(shape, param.stride()):
        return f"{told} not in one piece of memory row by row (strides {param.stride()})"
    if grad is not None and grad.dtype != param.dtype:
        return f"{told} in {param.dtype}, and its gradient in {grad.dtype}"
    return ""


class Fused:
    """What is kept between fused steps of an optimizer: the tables of its parameters."""

    def __init__(self) -> None:
        self._tables: dict[tuple[int, ...], Tables] = {}

    def steps(
        self, recipe: Recipe, params: Tensors, states: list[State], group: Group, shares: bool, **scaler: Tensor | None
    ) -> Iterator[FusedStep]:
        """Yield the steps of parameters, one for each device and dtype among those that have a gradient.

        Args:
            params: those of a group that have a state, be it that they have no gradient in this step.
            scaler: `grad_scale` and `found_inf`.
        """
        algorithm = read(recipe)
        assert isinstance(algorithm, Algorithm)
        alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
        for i, param in enumerate(params):
            alike.setdefault((param.device, param.dtype), []).append(i)
        for same in alike.values():
            if any(params[i].grad is not None for i in same):
                tables = self._tables_of([params[i] for i in same])
                yield FusedStep(algorithm, tables, [states[i] for i in same], group, shares, **scaler)

    def _tables_of(self, params: Tensors) -> Tables:
        key = tuple(map(id, params))
        tables = self._tables.get(key)
        if tables is None or not tables.fit():
            gone = [other for other in self._tables if other and other[0] == key[0]]  # fewer of the same had a state
            for other in gone:
                del self._tables[other]
            tables = self._tables[key] = Tables(params)
        return tables
