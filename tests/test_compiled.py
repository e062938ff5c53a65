"""The compiled step is the step as it is, up to rounding, and the host does not wait in it either."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from problems import PARATROOPER, chain, distance, resumes
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

from ranger21 import Ranger21
from ranger21.optim.buckets import COMPILED_FROM

COMPILERS = (os.environ.get("CXX", "c++"), "g++", "clang++")
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="torch.compile needs a C++ compiler"),
]
LARGE = [(32, 64, 3, 3), (32, 64, 3, 3), (128, 128, 1, 1), (64, 256)]  # the second channels last
SMALL = [(8, 4, 3, 3), (5, 6), (16,), ()]
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}
ODD = [
    *("agc", "normalize", {"name": "second_moment", "softplus": 50.0}, "l2"),
    {"name": "trust_ratio", "of_step": True, "clamp": "ten"},
    "lookahead",
]


def make_params(dtype: torch.dtype = torch.float64) -> list[Parameter]:
    rng = np.random.default_rng(0)
    tensors = [torch.tensor(rng.normal(size=shape), dtype=dtype) for shape in [*LARGE, *SMALL]]
    tensors[1] = tensors[1].contiguous(memory_format=torch.channels_last)
    assert all(x.numel() >= COMPILED_FROM for x in tensors[: len(LARGE)])
    return [Parameter(x) for x in tensors]


def go(optimizer: Optimizer, params: list[Parameter], steps: Iterable[int]) -> list[Tensor]:
    """Steps with gradients of varying size: of the parameters' memory formats but for some; some are missing."""
    for step in steps:
        rng = np.random.default_rng(step)
        for i, param in enumerate(params):
            grad = torch.tensor(rng.normal(size=param.shape) * 10.0 ** (-(step % 3)), dtype=param.dtype)
            other_format = i == 1 and step % 5 == 4
            param.grad = grad if other_format else torch.empty_like(param).copy_(grad)
            if i == 2 and step % 4 == 3:
                param.grad = None
        optimizer.step()
    return [param.detach().clone() for param in params]


def check(plain: Optimizer, compiled: Optimizer, tolerance: float, steps: int = 12) -> None:
    """That both go the same way, step by step, tensor by tensor, and a long one."""
    a, b = (optimizer.param_groups[0]["params"] for optimizer in (plain, compiled))
    start = [param.detach().clone() for param in a]
    for step in range(steps):
        for x, y in zip(go(plain, a, [step]), go(compiled, b, [step]), strict=True):
            assert (x - y).norm() <= tolerance * x.norm(), (step, x.shape)
    assert all(distance([x], [y]) > 1e-3 for x, y in zip(a, start, strict=True))
    assert b[1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_compiled_step_is_the_step(scope: str, dtype: torch.dtype) -> None:
    plain, compiled = (
        Ranger21(make_params(dtype), lr=1e-2, weight_decay=1e-2, stable_decay=scope, compile=compile)
        for compile in (False, True)
    )
    check(plain, compiled, TOLERANCES[dtype])


@pytest.mark.parametrize(
    "parts", [pytest.param(ODD, id="odd"), pytest.param(PARATROOPER, id="paratrooper", marks=pytest.mark.slow)]
)
def test_a_chain_can_be_compiled(parts: list[Any]) -> None:
    """One without a first moment, whose update is the gradient itself; one in which the division sets in late."""
    plain, compiled = (chain(parts, weight_decay=1e-2, compile=compile)(make_params()) for compile in (False, True))
    check(plain, compiled, 1e-12)


def compiled_ranger21(params: list[Parameter]) -> Ranger21:
    return Ranger21(params, lr=1e-2, compile=True)


def test_a_compiled_run_resumes_bit_for_bit() -> None:
    assert resumes(compiled_ranger21, make_params(), 7, 12, go)


def test_a_compiled_run_goes_on_uncompiled() -> None:
    params, others = make_params(), make_params()
    compiled, plain = compiled_ranger21(params), Ranger21(others)
    for param, other in zip(go(compiled, params, range(7)), others, strict=True):
        other.data.copy_(param)
    plain.load_state_dict(copy.deepcopy(compiled.state_dict()))
    assert plain.param_groups[0]["compile"] is True, "it comes with the state, as all arguments do"
    plain.param_groups[0]["compile"] = False
    assert distance(go(compiled, params, range(7, 12)), go(plain, others, range(7, 12))) < 1e-12


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_host_does_not_wait_in_a_compiled_step(scope: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only values that are asked for are the numbers of the step, float64 and on the host to begin with.

    Modes that watch operations switch compiling off, so the profiler counts them; it also tells what was compiled.
    """
    params = make_params(torch.float32)
    optimizer = Ranger21(params, lr=1e-2, weight_decay=1e-2, stable_decay=scope, compile=True)
    go(optimizer, params, range(6))
    asked: list[Tensor] = []
    item = Tensor.item
    monkeypatch.setattr(Tensor, "item", lambda x: (asked.append(x), item(x))[1])
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        optimizer.step()
    monkeypatch.undo()
    names = [event.name for event in profiled.events()]
    assert sum(name.startswith("Torch-Compiled Region") for name in names) == 2 * len(LARGE)
    assert names.count("aten::item") == names.count("aten::_local_scalar_dense") == len(asked)
    assert all(x.dtype == torch.float64 and x.ndim == 0 for x in asked)
    assert not {"aten::is_nonzero", "aten::nonzero", "aten::equal"} & set(names)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        params[0].sum().item()
    assert "aten::item" in [event.name for event in profiled.events()]
