"""Parameters and steps for the tests of the fused step in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

SHAPES = [(2, 3), (5,), (), (2, 1, 1, 1)]
OFF: dict[str, Any] = {
    "agc_clipping": None, "centralize": False, "pnm": False, "stable_decay": None, "norm_loss": False, "lookahead_k": 0,
}  # fmt: skip


def make_params(shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float32) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def walk(optimizer: Optimizer, params: list[Parameter], steps: range, missing: int = -1) -> list[Tensor]:
    """Take steps; return copies of the parameters. The parameter `missing` has no gradient at even steps."""
    for step in steps:
        generator = torch.Generator().manual_seed(100 + step)
        for i, param in enumerate(params):
            grad = torch.randn(param.shape, generator=generator) * 10.0 ** (-(step % 3))
            param.grad = None if i == missing and step % 2 == 0 else grad.to(param.dtype)
        optimizer.step()
    return [param.detach().clone() for param in params]


def largest_difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Return the largest difference between elements: absolute for values below 1, relative above."""
    pairs = [(x.detach().double(), y.detach().double()) for x, y in zip(ours, theirs, strict=True) if x.numel()]
    return max((float(((x - y).abs() / y.abs().clamp(min=1)).max()) for x, y in pairs), default=0.0)


def states(optimizer: Optimizer) -> list[Any]:
    return list(optimizer.state_dict()["state"].values())
