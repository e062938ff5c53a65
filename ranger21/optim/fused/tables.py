"""What the kernels are told of the tensors: where they are, and the rows that they are made of."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ranger21.optim.tensors import Tensors, has_wide_units

Sizes = tuple[int, ...]


def layout(x: Tensor) -> Sizes:
    """Return the strides of the axes of more than one element, which say where each element is."""
    return tuple(stride for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1)


def row_stride(shape: Sizes, strides: Sizes) -> int | None:
    """Return how far apart the elements of a unit are, in elements, all alike; None: they are not."""
    axes = list(zip(shape, strides, strict=True))[1 if len(shape) >= 2 else 0 :]
    axes = sorted((axis for axis in axes if axis[0] > 1), key=lambda axis: -axis[1])
    inner = [size * stride for size, stride in axes[1:]]
    if any(stride != below for (_, stride), below in zip(axes, inner, strict=False)):
        return None
    return axes[-1][1] if axes else 1


@lru_cache(maxsize=4096)
def is_of_rows(shape: Sizes, strides: Sizes) -> bool:
    """Whether a tensor fills its memory, so that one like it has the same strides, and its units are evenly spaced."""
    if 0 in shape:
        return True
    x = torch.empty_strided(shape, strides, device="meta")
    return 0 not in layout(x) and layout(x) == layout(torch.empty_like(x)) and row_stride(shape, strides) is not None


def like(x: Tensor, param: Tensor) -> Tensor:
    """Return `x` with the dtype of its own and the strides of a parameter: itself, or a copy."""
    if x.stride() == param.stride() or layout(x) == layout(param):
        return x
    return torch.empty_like(param, dtype=x.dtype, memory_format=torch.preserve_format).copy_(x)


def addresses(xs: Iterable[Any]) -> list[int]:
    """Return where the first elements are: 0 for what is no tensor and for a pretended device, 1 for no elements."""
    return [x.data_ptr() or 1 if isinstance(x, Tensor) and not isinstance(x, FakeTensor) else 0 for x in xs]


def upload(numbers: Any, device: torch.device) -> Tensor:
    """Return int64 on a device; the host waits for nothing: torch lends pinned memory anew when the copy is done."""
    pinned = device.type == "cuda" and torch.cuda.is_available()
    host = torch.tensor(numbers, dtype=torch.int64, device="cpu", pin_memory=pinned)
    return host.to(device, non_blocking=True)


class Uploaded:
    """Numbers on the device that go up when they have changed, without a synchronisation."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._known, self._there = device, list[int](), torch.empty(0)

    def of(self, numbers: list[int]) -> tuple[Tensor, bool]:
        """Return the numbers on the device, int64, and whether they have changed."""
        changed = numbers != self._known
        if changed:
            self._known, self._there = numbers, upload(numbers, self._device)
        return self._there, changed


class Tables:
    """The tables of some parameters of one device and dtype, and memory for a step.

    Attributes:
        params: the parameters, in the tables' order.
        at, grads: the addresses, which the step tells.
        rows, shapes, norms, sums, numbers, total: as `ranger21.optim.fused.kernels` has them.
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
        """Whether the parameters are still of the shapes and strides for which the tables were made."""
        return self._known == self._layouts()


def rows_of(number: int, x: Tensor) -> list[tuple[int, int, int, int]]:
    """Return the rows of a tensor: of each the tensor's number, its offset, length and stride.

    A tensor without elements has one row, of length 0; one of no axes has one of length 1.
    """
    units = x.shape[0] if x.ndim >= 2 and x.numel() else 1
    stride = row_stride(tuple(x.shape), x.stride()) or 1
    apart = x.stride(0) if x.ndim >= 2 else 1
    return [(number, i * apart, x.numel() // units, stride) for i in range(units)]
