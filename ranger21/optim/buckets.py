"""Buckets: lists of parameters that are stepped together, and scratch memory for a step."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ranger21.optim.tensors import Tensors, is_plain

CACHED = 2**20  # elements per bucket on a CPU: few enough for its cache, enough to hide Python's overhead

Group = dict[str, Any]


def buckets(params: Iterable[Tensor], state: Any, foreach: bool) -> Iterator[Tensors]:
    """Yield lists of parameters that share a device, dtype and step count.

    On a CPU a list has at most `CACHED` elements, so that successive operations find them in the cache. On other
    devices it has all of them, for few kernel launches. Without `foreach`, every list has one parameter.
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
    """Yield consecutive lists of parameters with at most `most` elements in total, or with a single parameter."""
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
    """Scratch memory for temporary tensors, allocated once because allocating new pages is slow on a CPU.

    Other devices need none: torch's caching allocator reuses freed memory.
    """

    def __init__(self) -> None:
        self._flat: dict[torch.dtype, Tensor] = {}

    def spares(self, params: Tensors) -> list[Tensors]:
        """Return two lists of scratch tensors with the parameters' shapes and strides.

        Return an empty list off the CPU, for tensors with fewer than two axes (they are small), and for non-dense ones.
        """
        first, size = params[0], sum(param.numel() for param in params)
        if first.device.type != "cpu" or first.ndim < 2 or not all(map(is_dense, params)):
            return []
        flat = self._flat.get(first.dtype)
        if flat is None or flat.numel() < 2 * size:
            flat = self._flat[first.dtype] = first.new_empty(2 * size)
        starts = list(itertools.accumulate((param.numel() for param in params[:-1]), initial=0))
        return [
            [flat.as_strided(x.shape, x.stride(), half + start) for x, start in zip(params, starts, strict=True)]
            for half in (size, 0)  # the last list is used first; it starts at the aligned address
        ]


def is_dense(x: Tensor) -> bool:
    """Return whether a tensor is a plain one, contiguous or in channels_last."""
    dense = x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
    return dense and is_plain(x)
