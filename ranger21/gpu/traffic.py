"""Launches and bytes, counted while operations are only pretended: no device, no memory, no arithmetic."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

OVERWRITES = ("copy_", "zero_", "fill_", "_foreach_copy_", "_foreach_zero_", "normal_", "uniform_")  # unread first
ALLOCATES = ("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided")
Weigh = Callable[..., float]


class Traffic(TorchDispatchMode):
    """Counts the operations that are carried out under it, and the bytes that they read and write.

    An operation is counted as one launch; those on many tensors and some reductions are several on a GPU, so that the
    count is the least that there can be. Bytes are those of whole tensors, each read and written once by an operation,
    without what a cache saves. Views and allocations are free, and so is what lies on the host.

    Attributes:
        launches: how many.
        bytes: of all reads and writes.
        names: how often each operation was seen.

    Args:
        weigh: of operations whose schema does not tell what they read and write, by qualified name
            ("namespace::name"): a function of their arguments that returns bytes.
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
    """Return the bytes of tensors; one that was expanded counts as large as its memory."""
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
    """Within it, new tensors are on a device that need not be there, and hold no values.

    "meta" is torch's own such device, on which tensors are plain ones; of others they are of a class of torch's.
    """
    with nullcontext() if device == "meta" else FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
        yield


def fused_adamw(params: Any, grads: Any, means: Any, squares: Any, *_: Any, grad_scale: Any = None, **__: Any) -> float:
    """Return the bytes of torch's fused AdamW: its schema has the gradients written to, which only a scaler does."""
    return 2 * nbytes([params, means, squares]) + nbytes(grads) * (1 if grad_scale is None else 2)
