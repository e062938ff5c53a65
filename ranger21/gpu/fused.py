"""Memory traffic and launches of the fused step's kernels, of which the operators' schemas show only a part."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import Tensor

from ranger21.gpu.traffic import Weigh, nbytes
from ranger21.optim.chain import Chain
from ranger21.optim.ranger21 import Ranger21

if TYPE_CHECKING:
    from ranger21.gpu.compiled import Launch

STATE = 4  # bytes of an element of float32


def elements(params: list[Tensor]) -> int:
    """Return the number of elements of all parameters together."""
    return sum(param.numel() for param in params)


def observe(
    params: Any, grads: Any, moments: Any, tables: Any, memory: Any, scale: Any, found: Any, numbers: Any, switches: Any
) -> float:
    """Return the bytes of `observe`, which reads the gradient twice if it needs statistics of a row first."""
    clips, centralizes, _, maximum, norms, _, kahan = switches
    looks = nbytes(params) * bool(clips or norms) * (1 + kahan) + nbytes(grads) * bool(clips or centralizes)
    takes = nbytes(grads) + 2 * STATE * elements(params) * (2 + maximum)
    return looks + takes + nbytes(tables) + nbytes(memory)


def settle(steps: Any, tables: Any, memory: Any, *rest: Any) -> float:
    """Return the bytes of `settle`, which handles only step counts, sums and scalars."""
    return 2 * nbytes(steps) + nbytes(tables) + nbytes(memory)


def move(params: Any, kept: Any, moments: Any, tables: Any, found: Any, rate: Any, lr: Any, *rest: Any) -> float:
    """Return the bytes of `move`, with those of a merge every k steps averaged over the steps."""
    _, switches = rest
    pnm, _, _, _, _, k, kahan = switches
    read = STATE * elements(params) * (2 + pnm)
    merge = 2 * STATE * elements(params) / k if k else 0
    return read + 2 * nbytes(params) * (1 + kahan) + merge + nbytes(tables)


WEIGH: Mapping[str, Weigh] = {"ranger21::observe": observe, "ranger21::settle": settle, "ranger21::move": move}


def parameters(dtype: torch.dtype) -> list[Tensor]:
    """Return two small parameters."""
    return [torch.zeros(4, 3, dtype=dtype), torch.zeros(5, dtype=dtype)]


ADAMW = ["first_moment", "second_moment", "decay"]
CASES: dict[str, tuple[Callable[[], Chain], bool]] = {  # the optimizer, and whether a gradient scaler is used
    "float32": (lambda: Ranger21(parameters(torch.float32)), False),
    "float32, global, scaler": (lambda: Ranger21(parameters(torch.float32), stable_decay="global"), True),
    "bfloat16, Kahan": (lambda: Ranger21(parameters(torch.bfloat16)), False),
    "AdamW's chain, float32": (lambda: Chain(parameters(torch.float32), 1e-3, ADAMW, weight_decay=0.1), False),
    "AdamW's chain, bfloat16": (lambda: Chain(parameters(torch.bfloat16), 1e-3, ADAMW, weight_decay=0.1), False),
}


def asked(case: str) -> "list[Launch]":
    """Return the launches of a step of a case, without executing them. Needs Triton."""
    from ranger21.gpu.compiled import launches

    make, scaled = CASES[case]

    def step() -> None:
        optimizer = make()
        for param in optimizer.param_groups[0]["params"]:
            param.grad = torch.ones_like(param)
        if scaled:
            optimizer.grad_scale, optimizer.found_inf = torch.ones(()), torch.zeros(())  # type: ignore[attr-defined]
        optimizer.step()

    with mock.patch.object(Chain, "is_fused", lambda *_: True):  # as on a GPU; the fused step's self-check cannot run
        return launches(step)
