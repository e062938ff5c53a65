"""Tables for the kernels: the addresses of tensors, and the rows that they consist of."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ranger21.optim.tensors import Tensors, has_wide_units

Sizes = tuple[int, ...]


def layout(x: Tensor) -> Sizes:
    """Return the strides of the axes with more than one element, which determine the position of each element."""
    return tuple(stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1)


def row_stride(shape: Sizes, strides: Sizes) -> int | None:
    """Return the distance between successive elements of a unit, or None if they are not evenly spaced."""
    axes = list(zip(shape, strides, strict=True))[1 if len(shape) >= 2 else 0 :]
    axes = sorted((axis for axis in axes if axis[0] > 1), key=lambda axis: -axis[1])
    inner = [size * stride for size, stride in axes[1:]]
    if any(stride != below for (_, stride), below in zip(axes, inner, strict=False)):
        return None
    return axes[-1][1] if axes else 1


@lru_cache(maxsize=4096)
def is_of_rows(shape: Sizes, strides: Sizes) -> bool:
    """Return whether a tensor is dense (so that `empty_like` keeps its strides) and its units are evenly spaced."""
    if 0 in shape:
        return True
    x = torch.empty_strided(shape, strides, device="meta")
    return 0 not in layout(x) and layout(x) == layout(torch.empty_like(x)) and row_stride(shape, strides) is not None


def like(x: Tensor, param: Tensor) -> Tensor:
    """Return `x` if it has the strides of a parameter, or else a copy with these strides and the dtype of `x`."""
    if x.stride() == param.stride() or layout(x) == layout(param):
        return x
    return torch.empty_like(param, dtype=x.dtype, memory_format=torch.preserve_format).copy_(x)


def addresses(xs: Iterable[Any]) -> list[int]:
    """Return the addresses of tensors: 0 for other objects and fake tensors, 1 for tensors without elements."""
    return [x.data_ptr() or 1 if isinstance(x, Tensor) and not isinstance(x, FakeTensor) else 0 for x in xs]


def upload(numbers: Any, device: torch.device) -> Tensor:
    """Copy integers to a device as int64, without synchronizing.

    The pinned buffer can be released at once: torch reuses it only when the copy is complete.
    """
    pinned = device.type == "cuda" and torch.cuda.is_available()
    host = torch.tensor(numbers, dtype=torch.int64, device="cpu", pin_memory=pinned)
    return host.to(device, non_blocking=True)


class Uploaded:
    """A cache of integers on a device, which are uploaded only when they change."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._known, self._there = device, list[int](), torch.empty(0)

    def of(self, numbers: list[int]) -> tuple[Tensor, bool]:
        """Return the numbers as int64 on the device, and whether they have changed since the last call."""
        changed = numbers != self._known
        if changed:
            self._known, self._there = numbers, upload(numbers, self._device)
        return self._there, changed


class Tables:
    """The tables of parameters that share a device and dtype, and scratch memory for a step.

    Attributes:
        params: The parameters, in the order of the tables.
        at, grads: Addresses, which each step updates.
        rows, shapes, norms, sums, numbers, total: As described in `ranger21.optim.fused.kernels`.
    """

    def __init__(self, params: Tensors) -> None:
        self.params, device = list(params), params[0].device
        self._known = self._layouts()
        self.at, self.grads = Uploaded(device), Uploaded(device)
        found = [rows_of(i, param) for i, param in enumerate(params)]
        counts = [len(rows) for rows in found]
        firsts = [sum(counts[:i]) for i in range(len(counts))]
        shapes = [
            [*(max(1, param.numel()) for param in params), 0],
            [*firsts, 0],
            [*counts, sum(counts)],
            [*(int(has_wide_units(param)) for param in params), 0],
        ]
        self.rows = upload(list(zip(*(row for rows in found for row in rows), strict=True)), device)
        self.shapes = upload(shapes, device)

        def new(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.float32, device=device)

        self.norms, self.sums, self.numbers = new(sum(counts)), new(sum(counts)), new(3, len(params))
        self.total = new()

    def _layouts(self) -> list[Any]:
        return [(param.shape, param.stride()) for param in self.params]

    def fit(self) -> bool:
        """Return whether the parameters still have the shapes and strides of the tables."""
        return self._known == self._layouts()


def rows_of(number: int, x: Tensor) -> list[tuple[int, int, int, int]]:
    """Return (tensor number, offset, length, stride) of each row of a tensor.

    A tensor without elements has one row of length 0; a tensor without axes has one row of length 1.
    """
    units = x.shape[0] if x.ndim >= 2 and x.numel() else 1
    stride = row_stride(tuple(x.shape), x.stride()) or 1
    apart = x.stride(0) if x.ndim >= 2 else 1
    return [(number, i * apart, x.numel() // units, stride) for i in range(units)]
