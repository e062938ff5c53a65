"""Parameters put together that can go through a step together, and what a step needs of them."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ranger21.optim.tensors import Tensors, is_plain

CACHED = 2**20  # elements that a processor's cache has room for, and of which Python's share of the time is small

Group = dict[str, Any]


def buckets(params: Iterable[Tensor], state: Any, foreach: bool) -> Iterator[Tensors]:
    """Yield the parameters together that are of one device, dtype and count of steps.

    On a processor as many as its cache has room for, since each operation reads and writes memory; elsewhere all,
    since each operation has to be launched. One by one without `foreach`.
    """
    alike: dict[tuple[Any, ...], Tensors] = {}
    for param in params:
        mesh, flat = None if is_plain(param) else getattr(param, "device_mesh", None), param.ndim < 2
        kind = (param.device, param.dtype, state[param]["step"], mesh, flat and param.device.type == "cpu")
        alike.setdefault(kind, []).append(param)
    for same in alike.values():
        most = CACHED if same[0].device.type == "cpu" else sum(param.numel() for param in same)
        yield from portions(same, most if foreach else 0)


def portions(params: Tensors, most: int) -> Iterator[Tensors]:
    """Yield lists of at most so many elements, or of one parameter."""
    some: Tensors = []
    size = 0
    for param in params:
        if some and size + param.numel() > most:
            yield some
            some, size = [], 0
        some.append(param)
        size += param.numel()
    if some:
        yield some


class Memory:
    """Memory for what lives no longer than a step, taken once for all: fresh pages are slow to come by on a processor.

    Elsewhere torch keeps what was freed by itself.
    """

    def __init__(self) -> None:
        self._flat: dict[torch.dtype, Tensor] = {}

    def spares(self, params: Tensors) -> list[Tensors]:
        """Return two lists of tensors like the parameters; none for tensors of fewer than two axes, which are small."""
        first, size = params[0], sum(param.numel() for param in params)
        if first.device.type != "cpu" or first.ndim < 2 or not all(map(is_dense, params)):
            return []
        flat = self._flat.get(first.dtype)
        if flat is None or flat.numel() < 2 * size:
            flat = self._flat[first.dtype] = first.new_empty(2 * size)
        starts = list(itertools.accumulate((param.numel() for param in params[:-1]), initial=0))
        return [
            [flat.as_strided(x.shape, x.stride(), half + start) for x, start in zip(params, starts, strict=True)]
            for half in (size, 0)  # the last is taken first, and aligned as memory is
        ]


def is_dense(x: Tensor) -> bool:
    """Whether the tensor fills its memory, each unit in one piece."""
    dense = x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
    return dense and is_plain(x)
