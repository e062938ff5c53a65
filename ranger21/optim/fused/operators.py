"""The kernels as custom torch operators, one launch each, so that compilers and fake tensors can handle them.

The kernels find the tensors through the addresses in `tables`; the tensors are operator arguments only to tell torch
what is read and written. The remaining arguments are those of the kernels, in the same order: `tables` are read,
`memory` is written, then `numbers` and `switches`. The operators return nothing, and do nothing on fake tensors.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ranger21.optim.tensors import Tensors

LIBRARY = torch.library.Library("ranger21", "FRAGMENT")
BLOCK = 512  # elements per iteration of a program; with 1,024, some kernels spill registers

LIBRARY.define(
    "observe(Tensor[] params, Tensor[] grads, Tensor(a!)[] moments, Tensor[] tables, Tensor(b!)[] memory,"
    " Tensor? scale, Tensor? found, float[] numbers, int[] switches) -> ()"
)
LIBRARY.define(
    "settle(Tensor(a!)[] steps, Tensor[] tables, Tensor(b!)[] memory,"
    " Tensor? found, Tensor? rate, float lr, float[] numbers, int[] switches) -> ()"
)
LIBRARY.define(
    "move(Tensor(a!)[] params, Tensor(b!)[] kept, Tensor[] moments, Tensor[] tables,"
    " Tensor? found, Tensor? rate, float lr, float[] numbers, int[] switches) -> ()"
)


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Return a context manager in which Triton launches on the device of a tensor."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


@torch.library.impl(LIBRARY, "observe", "CompositeExplicitAutograd")
def _observe(
    params: Tensors,
    grads: Tensors,
    moments: Tensors,
    tables: Tensors,
    memory: Tensors,
    scale: Tensor | None,
    found: Tensor | None,
    numbers: list[float],
    switches: list[int],
) -> None:
    from ranger21.optim.fused import kernels

    _, grads_at, rows, _ = tables
    dtype, row_count = kernels.TYPES[params[0].dtype], rows.shape[1]
    more = (*switches, scale is not None, found is not None, BLOCK)
    with on_device_of(rows):
        kernels.observe[row_count,](*tables, *memory, scale, found, len(grads_at), row_count, *numbers, dtype, *more)


@torch.library.impl(LIBRARY, "settle", "CompositeExplicitAutograd")
def _settle(
    steps: Tensors,
    tables: Tensors,
    memory: Tensors,
    found: Tensor | None,
    rate: Tensor | None,
    lr: float,
    numbers: list[float],
    switches: list[int],
) -> None:
    from ranger21.optim.fused import kernels

    _, grads_at, _, _ = tables
    _, total = switches
    more = (*switches, found is not None, rate is not None, BLOCK)
    with on_device_of(grads_at):
        kernels.settle[len(grads_at) + bool(total),](
            *tables, *memory, found, lr if rate is None else rate, len(grads_at), *numbers, *more
        )


@torch.library.impl(LIBRARY, "move", "CompositeExplicitAutograd")
def _move(
    params: Tensors,
    kept: Tensors,
    moments: Tensors,
    tables: Tensors,
    found: Tensor | None,
    rate: Tensor | None,
    lr: float,
    numbers: list[float],
    switches: list[int],
) -> None:
    from ranger21.optim.fused import kernels

    _, grads_at, rows, *_ = tables
    dtype, row_count = kernels.TYPES[params[0].dtype], rows.shape[1]
    more = (*switches, found is not None, rate is not None, BLOCK)
    with on_device_of(rows):
        kernels.move[row_count,](
            *tables, found, lr if rate is None else rate, len(grads_at), row_count, *numbers, dtype, *more
        )


for _name in ("observe", "settle", "move"):
    torch.library.register_fake(f"ranger21::{_name}", lambda *_: None, lib=LIBRARY)
