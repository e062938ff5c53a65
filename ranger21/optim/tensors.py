"""Arithmetic on lists of tensors, one for each parameter, and on the *units* that they are made of.

A unit is everything but the first axis of a tensor of two or more axes (an output channel of a convolution, a row of
a matrix), and the whole of a tensor of fewer axes. Nothing here asks the device for a value: the host never waits.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

Tensors = list[Tensor]
Number = float | Tensor  # a tensor of no axes where the learning rate or the count of steps is one


def unit_axes(x: Tensor) -> tuple[int, ...]:
    """Return the axes that make up a unit; none for a tensor of fewer than two axes, which is a unit itself."""
    return tuple(range(1, x.ndim)) if x.ndim >= 2 else ()


def has_wide_units(x: Tensor) -> bool:
    """Whether a tensor has two or more axes and units of more than one element."""
    return x.ndim >= 2 and x.numel() > x.shape[0]


def unit_norms(xs: Tensors) -> Tensors:
    """Return the Euclidean norm of every unit, in a shape that broadcasts against the tensor."""
    return [
        torch.linalg.vector_norm(x, dim=unit_axes(x), keepdim=True) if whole is None else whole
        for x, whole in zip(xs, _of_vectors(xs, 2), strict=True)
    ]


def norms(xs: Tensors) -> Tensors:
    """Return the Euclidean norm of every tensor, of no axes."""
    return list(torch._foreach_norm(xs, 2))


def totals(xs: Tensors) -> Tensors:
    """Return the sum of every tensor, of no axes; no element may be below 0.

    On a processor unit by unit, as a cache likes it; elsewhere all at once, for fewer launches.
    """
    if xs[0].device.type != "cpu":
        return list(torch._foreach_norm(xs, 1))
    return [
        x.sum(dim=unit_axes(x)).sum() if whole is None else whole
        for x, whole in zip(xs, _of_vectors(xs, 1), strict=True)
    ]


def _of_vectors(xs: Tensors, order: int) -> list[Tensor | None]:
    """Return the norms of the tensors of fewer than two axes, all at once; None for the others."""
    vectors = [x for x in xs if x.ndim < 2]
    found = iter(torch._foreach_norm(vectors, order) if vectors else ())
    return [next(found) if x.ndim < 2 else None for x in xs]


def means(xs: Tensors) -> Tensor:
    """Return the means of all tensors in one tensor; 0 for an empty one. No element may be below 0."""
    return torch.stack(torch._foreach_div(totals(xs), [max(1, x.numel()) for x in xs]))


def mul(xs: Tensors, ys: Tensors, out: Tensors | None = None) -> Tensors:
    """Return the products, in the memory of `out` if it is given."""
    if out is None:
        return list(torch._foreach_mul(xs, ys))
    for x, y, to in zip(xs, ys, out, strict=True):
        torch.mul(x, y, out=to)
    return out


def add(xs: Tensors, ys: Tensors, alpha: float, out: Tensors | None = None) -> Tensors:
    """Return x + alpha y, in the memory of `out` if it is given."""
    if out is None:
        return list(torch._foreach_add(xs, ys, alpha=alpha))
    for x, y, to in zip(xs, ys, out, strict=True):
        torch.add(x, y, alpha=alpha, out=to)
    return out


def sqrt(xs: Tensors, out: Tensors | None = None) -> Tensors:
    """Return the square roots, in the memory of `out` if it is given."""
    if out is None:
        return list(torch._foreach_sqrt(xs))
    for x, to in zip(xs, out, strict=True):
        torch.sqrt(x, out=to)
    return out


def root(x: Number) -> Number:
    """Return the square root of a number."""
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)


def at_most_1(x: Number) -> Number:
    """Return the number, or 1 if it is larger."""
    return x.clamp(max=1.0) if isinstance(x, Tensor) else min(1.0, x)


def is_plain(x: Tensor) -> bool:
    """Whether a tensor is a plain one: not a DTensor or another subclass."""
    return type(x) in (Tensor, torch.nn.Parameter, FakeTensor)


def whole(x: Tensor) -> Tensor:
    """Return a tensor whole: a DTensor gathered from its devices."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def spread_as(ys: list[Any], xs: list[Any]) -> Tensors:
    """Return tensors spread over devices as those of the step are.

    A DTensor of one unit is not, once it has met what is of its units: torch takes the unit axis for one to broadcast.
    """
    if not hasattr(xs[0], "placements"):
        return ys
    return [
        y if y.placements == x.placements else y.redistribute(placements=x.placements)
        for y, x in zip(ys, xs, strict=True)
    ]


def copy_(xs: Tensors, ys: Tensors) -> None:
    """Copy the second tensors into the first."""
    if all(map(is_plain, xs)):
        torch._foreach_copy_(xs, ys)
    else:  # DTensors have no _foreach_copy_
        for x, y in zip(xs, ys, strict=True):
            x.copy_(y)
