"""Counting of launches and bytes of operations on a fake device, without memory or arithmetic."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

OVERWRITES = (
    "copy_",
    "zero_",
    "fill_",
    "_foreach_copy_",
    "_foreach_zero_",
    "normal_",
    "uniform_",
)  # operations that do not read their output
ALLOCATES = ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
Weigh = Callable[..., float]


class Traffic(TorchDispatchMode):
    """Counts the operations dispatched inside, and the bytes that they read and write.

    An operation counts as one launch; operations on many tensors and some reductions need several on a GPU, so the
    count is a lower bound. Every operation reads and writes each tensor once, without savings by caches. Views,
    allocations and tensors on the host are free.

    Args:
        weigh: functions of an operation's arguments that return its bytes, by qualified name ("namespace::name"), for
            operations whose schema does not say what they read and write.

    Attributes:
        launches: number of launches.
        bytes: number of bytes of all reads and writes.
        names: number of calls of each operation.
    """

    def __init__(self, weigh: Mapping[str, Weigh] | None = None) -> None:
        super().__init__()
        self.launches, self.bytes, self.names = 0, 0.0, Counter[str]()
        self._weigh = {"aten::_fused_adamw_": fused_adamw} | dict(weigh or {})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.name().partition(".")[0]
        if func.namespace == "prim" or func.is_view or name.removeprefix("aten::") in (*ALLOCATES, "detach"):
            return out
        on_device = [x for x in tensors([args, list(kwargs.values()), out]) if x.device.type != "cpu"]
        if on_device:
            self.launches += 1
            self.names[name] += 1
            weigh = self._weigh.get(name)
            self.bytes += weigh(*args, **kwargs) if weigh else moved(func, args, kwargs, out)
        return out


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def nbytes(value: Any) -> int:
    """Return the bytes of tensors; an expanded tensor counts with its memory only."""
    return sum(
        math.prod(n for n, stride in zip(x.shape, x.stride(), strict=True) if stride) * x.element_size()
        for x in tensors(value)
        if x.numel()
    )


def moved(func: Any, args: Any, kwargs: Mapping[str, Any], out: Any) -> int:
    """Return the bytes that an operation reads and writes, by its schema."""
    found, new = 0, True
    name = func.name().partition(".")[0].removeprefix("aten::")
    for i, argument in enumerate(func._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(argument.name)
        written = argument.alias_info is not None and argument.alias_info.is_write
        new &= not written
        reads = not written or not (argument.is_out or (i == 0 and name in OVERWRITES))
        found += nbytes(value) * (reads + written)
    return found + (nbytes(out) if new else 0)


@contextmanager
def pretended(device: str = "cuda") -> Iterator[None]:
    """Context manager in which new tensors are created without values on a device that need not exist.

    With "meta" these are plain tensors on torch's meta device, with other devices FakeTensors.
    """
    with nullcontext() if device == "meta" else FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        yield


def fused_adamw(params: Any, grads: Any, means: Any, squares: Any, *_: Any, grad_scale: Any = None, **__: Any) -> float:
    """Return the bytes of torch's fused AdamW, which writes gradients only with a scaler, against its schema."""
    return 2 * nbytes([params, means, squares]) + nbytes(grads) * (1 if grad_scale is None else 2)
