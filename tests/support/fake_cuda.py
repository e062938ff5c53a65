"""A fake CUDA device, whose tensors have shapes but no contents.

torch's FakeTensorMode raises where the host reads a tensor (`.item()`, `bool()`, `nonzero()`, `tolist()`), but lets
copies between devices pass; `TransferGuard` refuses unexpected ones. Three more things are faked: that CUDA is
available; two of torch's fused steps, which return nothing; and the engine of the backward pass, which needs the
device's threads (here a loop calls its nodes one after the other).
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from types import CodeType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


class TransferGuard(TorchDispatchMode):
    """Raise on operations that make the host wait for the device: blocking copies between the two, and reads.

    Args:
        copies: functions that may copy to the device, asynchronously.
        reads: functions that may read one number, which is then `0.0`.

    Attributes:
        copied: how often each of `copies` copied, by name.
        read: how often `reads` read a number.
    """

    def __init__(self, copies: list[Any], reads: list[Any]) -> None:
        super().__init__()
        self.copies, self.reads = [[one.__code__ for one in some] for some in (copies, reads)]
        self.copied, self.read = Counter[str](), 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        if name == "_local_scalar_dense" and args[0].device.type == "cuda" and called_by(self.reads):
            self.read += 1
            return 0.0
        result = function(*args, **kwargs)
        before, after = sides((args, kwargs)), sides(result)
        if name in ("_to_copy", "copy_") and len(before | after) > 1:
            expected = "cuda" in after and (kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,)))
            caller = called_by(self.copies)
            assert expected and caller, f"{function}: a copy between the devices makes the host wait"
            self.copied[caller] += 1
        else:  # a single number on the CPU is passed to the kernel as an argument; anything larger is copied
            assert len(sides((args, kwargs), least=1) | after) < 2, f"{function}: tensors of both devices"
        return result


def sides(tree: Any, least: int = 0) -> set[str]:
    """Return the device types of the tensors with at least `least` dimensions."""
    return {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.ndim >= least}


def called_by(codes: list[CodeType]) -> str:
    """Return the name of the innermost of these functions that is running, or an empty string if none is."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code in codes:
            return frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def backward(loss: Tensor, gradient: Tensor | None = None, *_: Any) -> None:
    """Do what `loss.backward()` does, node by node."""
    order: list[Any] = []
    seen, rest = set(), [(loss.grad_fn, False)]
    while rest:
        node, done = rest.pop()
        if done:
            order.append(node)
        elif node is not None and node not in seen:
            seen.add(node)
            rest += [(node, True), *((before, False) for before, _ in node.next_functions)]
    given: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss) if gradient is None else gradient}}
    with torch.no_grad():
        for node in reversed(order):
            have = given.pop(node)
            found = node(*(have.get(place) for place in range(len(node._input_metadata))))
            found = found if isinstance(found, tuple) else (found,)
            for grad, (before, place) in zip(found, node.next_functions, strict=False):
                if before is not None and grad is not None:
                    wanted = before._input_metadata[place]
                    grad = grad.sum_to_size(wanted.shape).to(wanted.dtype)
                    there = given.setdefault(before, {})
                    there[place] = there[place] + grad if place in there else grad


@contextlib.contextmanager
def fake_cuda(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give tensors no contents, and make CUDA look available to autocast and the gradient scaler."""
    patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    patch.setattr("torch.amp.grad_scaler.amp_definitely_not_available", lambda: False, raising=False)
    patch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    patch.setattr(torch.Tensor, "backward", backward)
    with torch.library._scoped_library("aten", "IMPL") as aten, FakeTensorMode(allow_non_fake_inputs=False):
        for name in ("_fused_sgd_", "_fused_adagrad_"):
            aten.impl(name, lambda *args, **kwargs: None, "Meta")
        yield
