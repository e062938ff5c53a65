"""Half-precision weights, for every optimizer of the project."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.optimizers import OWN_OPTIMIZERS, random_params, same, walk
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ranger21 import Ranger21

Make = Callable[..., Optimizer]
every = pytest.mark.parametrize("make", OWN_OPTIMIZERS.values(), ids=OWN_OPTIMIZERS)
STEPS = range(12)


def final_weights(make: Make, dtype: torch.dtype, of: Sequence[torch.dtype], **kwargs: Any) -> Tensor:
    """Return the weights after steps too small for half precision, with `kahan_comp` added."""
    params = [Parameter(torch.full(shape, 2.0, dtype=dtype)) for shape in ((4, 6), (5,))]
    optimizer = make(params, lr=4e-4, **kwargs)
    for step in range(40):
        for param in params:
            ramp = torch.linspace(0.5, 1.5, param.numel()).reshape(param.shape).sin() * (1 + step % 2)
            param.grad = functools.reduce(Tensor.to, of, ramp).to(dtype)
        optimizer.step()
    assert all(param.dtype == dtype and param.isfinite().all() for param in params)
    moments = {n: x.dtype for s in optimizer.state.values() for n, x in s.items() if isinstance(x, Tensor)}
    assert {dtype for name, dtype in moments.items() if name != "kahan_comp"} <= {torch.float32}
    lost = [optimizer.state[param].get("kahan_comp", torch.zeros(())) for param in params]
    return torch.cat([(p.detach().float() + x.float()).flatten() for p, x in zip(params, lost, strict=True)])


@every
def test_half_precision_with_kahan_sums_follows_float32(make: Make) -> None:
    """The steps are so small that half-precision weights would not change without Kahan summation."""
    halves = (torch.bfloat16, torch.float16)
    wide = final_weights(make, torch.float32, halves)
    for dtype in halves:
        kept, rounded = (final_weights(make, dtype, halves, kahan_sum=kahan_sum) for kahan_sum in (None, False))
        assert (kept - wide).abs().max() < 0.25 * (wide - 2.0).abs().max()
        assert (rounded - wide).abs().max() > (kept - wide).abs().max()


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_resumes_bit_for_bit(make: Make, dtype: torch.dtype) -> None:
    """The state stays float32 and equal, although torch casts a loaded state to the dtype of the weights."""
    params = [Parameter(param.detach().to(dtype)) for param in random_params()]
    optimizer = make(params)
    walk(optimizer, params, range(7))
    twins = copy.deepcopy(params)
    twin = make(twins)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    for param, other in zip(params, twins, strict=True):
        mine, its = optimizer.state[param], twin.state[other]
        assert mine.keys() == its.keys()
        assert all(torch.equal(torch.as_tensor(mine[name]), torch.as_tensor(its[name])) for name in mine)
        assert all(mine[name].dtype == its[name].dtype for name in mine if isinstance(mine[name], Tensor))
    assert same(walk(optimizer, params, STEPS), walk(twin, twins, STEPS))


def test_an_older_half_precision_state_continues_in_float32() -> None:
    params = [Parameter(param.detach().bfloat16()) for param in random_params()]
    optimizer = Ranger21(params)
    walk(optimizer, params, range(3))
    old = copy.deepcopy(optimizer.state_dict())
    for state in old["state"].values():
        del state["kahan_comp"]
        state |= {name: x.bfloat16() for name, x in state.items() if isinstance(x, Tensor)}
    optimizer.load_state_dict(old)
    ends = walk(optimizer, params, range(3, 9))
    assert all(optimizer.state[param]["exp_avg_sq"].dtype == torch.float32 for param in params)
    assert all(x.isfinite().all() for x in ends)
