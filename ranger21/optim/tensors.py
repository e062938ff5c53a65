"""Arithmetic on lists of tensors (one per parameter) and on their units.

A unit is a slice along the first axis of a tensor with two or more axes, such as an output channel of a convolution or
a row of a matrix. A tensor with fewer axes is a single unit. No function here synchronizes the host with the device.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

Tensors = list[Tensor]
Number = float | Tensor  # a tensor with no axes if the learning rate or the step count is a tensor


def unit_axes(x: Tensor) -> tuple[int, ...]:
    """Return the axes within a unit: all but the first, or none for a tensor with fewer than two axes."""
    return tuple(range(1, x.ndim)) if x.ndim >= 2 else ()


def has_wide_units(x: Tensor) -> bool:
    """Return whether a tensor has two or more axes and units with more than one element."""
    return x.ndim >= 2 and x.numel() > x.shape[0]


def unit_norms(xs: Tensors) -> Tensors:
    """Return the Euclidean norms of all units, in a shape that broadcasts against the tensor."""
    return [
        torch.linalg.vector_norm(x, dim=unit_axes(x), keepdim=True) if whole is None else whole
        for x, whole in zip(xs, _of_vectors(xs, 2), strict=True)
    ]


def norms(xs: Tensors) -> Tensors:
    """Return the Euclidean norm of every tensor, as tensors with no axes."""
    return list(torch._foreach_norm(xs, 2))


def totals(xs: Tensors) -> Tensors:
    """Return the sum of every tensor, as tensors with no axes. Elements must not be negative.

    On a CPU the sums are taken unit by unit, which suits its cache; elsewhere by one operation for all tensors.
    """
    if xs[0].device.type != "cpu":
        return list(torch._foreach_norm(xs, 1))
    return [
        x.sum(dim=unit_axes(x)).sum() if whole is None else whole
        for x, whole in zip(xs, _of_vectors(xs, 1), strict=True)
    ]


def _of_vectors(xs: Tensors, order: int) -> list[Tensor | None]:
    """Return the norms of the tensors with fewer than two axes, in one operation; None for the others."""
    vectors = [x for x in xs if x.ndim < 2]
    found = iter(torch._foreach_norm(vectors, order) if vectors else ())
    return [next(found) if x.ndim < 2 else None for x in xs]


def means(xs: Tensors) -> Tensor:
    """Return the means of all tensors as one vector, 0 for empty tensors. Elements must not be negative."""
    return torch.stack(torch._foreach_div(totals(xs), [max(1, x.numel()) for x in xs]))


def mul(xs: Tensors, ys: Tensors, out: Tensors | None = None) -> Tensors:
    """Return the products, written to `out` if it is given."""
    if out is None:
        return list(torch._foreach_mul(xs, ys))
    for x, y, to in zip(xs, ys, out, strict=True):
        torch.mul(x, y, out=to)
    return out


def add(xs: Tensors, ys: Tensors, alpha: float, out: Tensors | None = None) -> Tensors:
    """Return x + alpha y, written to `out` if it is given."""
    if out is None:
        return list(torch._foreach_add(xs, ys, alpha=alpha))
    for x, y, to in zip(xs, ys, out, strict=True):
        torch.add(x, y, alpha=alpha, out=to)
    return out


def sqrt(xs: Tensors, out: Tensors | None = None) -> Tensors:
    """Return the square roots, written to `out` if it is given."""
    if out is None:
        return list(torch._foreach_sqrt(xs))
    for x, to in zip(xs, out, strict=True):
        torch.sqrt(x, out=to)
    return out


def root(x: Number) -> Number:
    """Return the square root of a number."""
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)


def at_most_1(x: Number) -> Number:
    """Return min(x, 1)."""
    return x.clamp(max=1.0) if isinstance(x, Tensor) else min(1.0, x)


def is_plain(x: Tensor) -> bool:
    """Return whether a tensor is a plain one, not a DTensor or another subclass."""
    return type(x) in (Tensor, torch.nn.Parameter, FakeTensor)


def whole(x: Tensor) -> Tensor:
    """Return the full tensor of a DTensor, or a plain tensor as it is."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def spread_as(ys: list[Any], xs: list[Any]) -> Tensors:
    """Return DTensors `ys` with the placements of `xs`; plain tensors are returned as they are.

    The placements can differ after an operation with per-unit values on a DTensor with one unit, because torch treats
    its first axis as one to broadcast.
    """
    if not hasattr(xs[0], "placements"):
        return ys
    return [
        y if y.placements == x.placements else y.redistribute(placements=x.placements)
        for y, x in zip(ys, xs, strict=True)
    ]


def copy_(xs: Tensors, ys: Tensors) -> None:
    """Copy `ys` into `xs`."""
    if all(map(is_plain, xs)):
        torch._foreach_copy_(xs, ys)
    else:  # DTensors have no _foreach_copy_
        for x, y in zip(xs, ys, strict=True):
            x.copy_(y)
