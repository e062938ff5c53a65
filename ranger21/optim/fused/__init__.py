"""The fused step: three Triton kernel launches for tensors on a GPU, selected by the argument `fused` of a chain."""

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
    """Return whether to use the fused step: `fused` is True, or it is None and the step is possible on a GPU.

    Raises:
        ValueError: If `fused` is True and the fused step is impossible; the message says why.
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
    """Return why the fused step is impossible for the parameters, as a clause, or an empty string."""
    if group["capturable"]:
        return "with capturable = True, a CUDA graph would read gradients at the addresses of the captured step"
    if read(recipe) is None:
        chain = ", ".join(one.name for one in recipe.ingredients)
        return f"the fused step supports Algorithm 4, or a part of it in the same order, but not {chain}"
    if not has_triton():
        return "triton is not installed"
    return next((why for param in params if (why := unsupported(param))), "")


@lru_cache
def has_triton() -> bool:
    """Return whether Triton can be imported. The import takes about a second."""
    try:
        from ranger21.optim.fused import kernels  # noqa: F401
    except ImportError:
        return False
    return True


@lru_cache
def device_type() -> str:
    """Return the device type of the kernels: "cpu" if TRITON_INTERPRET was 1 when Triton was imported, else "cuda"."""
    from ranger21.optim.fused import kernels

    return "cpu" if kernels.INTERPRETED else "cuda"


def unsupported(param: Tensor) -> str:
    """Return why the kernels cannot step a parameter, as a clause, or an empty string."""
    device, shape, grad = param.device.type, tuple(param.shape), param.grad
    subject = f"a parameter of shape {shape}"
    if device != device_type():
        return f"{subject} is on {param.device}, and Triton's kernels need a GPU, or the CPU with TRITON_INTERPRET=1"
    if param.dtype not in DTYPES:
        return f"{subject} has the unsupported dtype {str(param.dtype).removeprefix('torch.')}"
    if not is_plain(param):
        return f"{subject} is a {type(param).__name__}, not a plain tensor"
    if not is_of_rows(shape, param.stride()):
        return f"{subject} is not stored densely row by row (strides {param.stride()})"
    if grad is not None and grad.dtype != param.dtype:
        return f"{subject} has the dtype {param.dtype}, but its gradient has {grad.dtype}"
    return ""


class FusedStepBuilder:
    """Build the fused steps of an optimizer, and cache the tables of its parameters between steps."""

    def __init__(self) -> None:
        self._tables: dict[tuple[int, ...], Tables] = {}

    def steps(
        self, recipe: Recipe, params: Tensors, states: list[State], group: Group, shares: bool, **scaler: Tensor | None
    ) -> Iterator[FusedStep]:
        """Yield one step per device and dtype of the parameters that have a gradient.

        Args:
            recipe: The recipe of the parameters.
            params: All parameters with a state, including those without a gradient in this step.
            states: The states of the parameters.
            group: Their parameter group.
            shares: Whether the sum of v_hat is needed for a mean over all parameters of the optimizer.
            scaler: `grad_scale` and `found_inf` of a gradient scaler.
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
            gone = [
                other for other in self._tables if other and other[0] == key[0]
            ]  # tables made before more of the parameters had a state
            for other in gone:
                del self._tables[other]
            tables = self._tables[key] = Tables(params)
        return tables
