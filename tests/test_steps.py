"""A chain's step: state, copies, groups, few operations, and no waiting for the device."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import timm
import torch
from support.optimizers import (
    ADAMW,
    CHAINS,
    RANGER,
    SHAPES,
    Operations,
    chain,
    distance,
    random_params,
    resumes_exactly,
    same,
    walk,
)
from torch.nn import Parameter

from ranger21 import Ranger21
from ranger21.optim.chain import Chain
from ranger21.optim.official import STATES, Ranger21Official

EVERY_CHAIN = pytest.mark.parametrize("parts", CHAINS.values(), ids=CHAINS)
OPTIMIZERS = {
    "default": Ranger21,
    "global": lambda params: Ranger21(params, stable_decay="global"),
    "global in two groups": lambda params: Ranger21(
        [{"params": params[::2]}, {"params": params[1::2], "lr": 0.1}], stable_decay="global"
    ),
    **{state: lambda params, state=state: Ranger21Official(params, state=state) for state in STATES},
    **{f"chain {name}": chain(parts, weight_decay=0.1) for name, parts in CHAINS.items()},
}


# State


@EVERY_CHAIN
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_dict_resumes_bit_for_bit(parts: list[Any], dtype: torch.dtype) -> None:
    """The stops are between two lookahead merges, and at one."""
    start = [Parameter(param.detach().to(dtype)) for param in random_params()]
    for stop in (5, 8):
        assert resumes_exactly(chain(parts, weight_decay=0.1), start, stop, 14)


def test_loading_a_state_restores_parts_and_rates() -> None:
    params, twins = random_params(), random_params()
    other, twin = chain(ADAMW)(params), chain(RANGER, lr=0.3, weight_decay=0.1)(twins)
    other.load_state_dict(twin.state_dict())
    assert same(walk(other, params, range(8)), walk(twin, twins, range(8)))
    assert other.state_dict()["param_groups"] == twin.state_dict()["param_groups"]


@EVERY_CHAIN
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_are_complete_and_independent(duplicate: Any, parts: list[Any]) -> None:
    optimizer = chain(parts, weight_decay=0.1)(params := random_params())
    frozen = walk(optimizer, params, range(7))
    twin_params, twin = duplicate((params, optimizer))
    moved = walk(twin, twin_params, range(7, 14))
    assert same(params, frozen), "the copy's steps must not move the original"
    assert distance(moved, frozen) > 1e-6
    assert same(walk(optimizer, params, range(7, 14)), moved)


# Groups and missing gradients


class Together:
    """Steps several optimizers as if they were one."""

    def __init__(self, *optimizers: Chain) -> None:
        self.optimizers = optimizers

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()


def test_groups_have_their_own_rate_decay_and_parts() -> None:
    """The result equals that of separate optimizers, one per group."""
    settings: list[dict[str, Any]] = [
        {"lr": 0.1, "weight_decay": 0.3, "parts": ["first_moment", "second_moment", "decay", "lookahead"]},
        {"lr": 0.2, "parts": ["l2", "first_moment"]},
        {"weight_decay": 0.0},
        {},
    ]
    default = {"lr": 0.01, "weight_decay": 0.1, "parts": RANGER}
    params, alone = random_params(), random_params()
    grouped = Chain([{"params": params[i::4], **extra} for i, extra in enumerate(settings)], **default)
    several = Together(*(Chain(alone[i::4], **default | extra) for i, extra in enumerate(settings)))
    ends = walk(grouped, params, range(14))
    assert same(walk(several, alone, range(14)), ends)
    for i, extra in enumerate(settings[:3]):
        without = random_params()
        rest = [{"params": without[j::4], **other} for j, other in enumerate(settings) if j != i]
        plain = walk(Chain([*rest, {"params": without[i::4]}], **default), without, range(14))
        assert same(plain[i + 1 :: 4], ends[i + 1 :: 4])
        assert distance(plain[i::4], ends[i::4]) > 1e-3, extra


@EVERY_CHAIN
def test_splitting_parameters_into_equal_groups_changes_nothing(parts: list[Any]) -> None:
    """The chains include a mean over all parameters, for which tensors wait in reused memory."""
    ends = []
    for split in (lambda params: params, lambda params: [{"params": [param]} for param in params]):
        params = random_params()
        ends.append(walk(Chain(split(params), 1e-2, parts, weight_decay=0.1), params, range(11)))
    assert distance(*ends) < 1e-12


@EVERY_CHAIN
def test_a_parameter_without_a_gradient_does_not_change(parts: list[Any]) -> None:
    params = random_params()
    optimizer = chain(parts, weight_decay=0.1)(params)
    walk(optimizer, params, range(4), sparse=False)
    frozen = copy.deepcopy(params[1:]), copy.deepcopy([optimizer.state[param] for param in params[1:]])
    before = params[0].detach().clone()
    for param in params[1:]:
        param.grad = None
    optimizer.step()
    assert not torch.equal(params[0], before)
    assert same(params[1:], frozen[0])
    for param, state in zip(params[1:], frozen[1], strict=True):
        assert optimizer.state[param].keys() == state.keys()
        assert all(
            torch.equal(torch.as_tensor(optimizer.state[param][key]), torch.as_tensor(state[key])) for key in state
        )


@EVERY_CHAIN
def test_step_does_not_change_gradients(parts: list[Any]) -> None:
    params = random_params()
    optimizer = chain(parts, weight_decay=0.1)(params)
    walk(optimizer, params, range(3))
    grads = [(param.grad, copy.deepcopy(param.grad)) for param in params]
    optimizer.step()
    for param, (grad, value) in zip(params, grads, strict=True):
        assert param.grad is grad
        assert grad is None or torch.equal(grad, value)


@EVERY_CHAIN
def test_empty_tensors_change_nothing(parts: list[Any]) -> None:
    ends = []
    for shapes in (SHAPES, [*SHAPES[:-2], (0,), (0, 3), (3, 0), *SHAPES[-2:]]):
        params = [Parameter(torch.ones(shape, dtype=torch.float64)) for shape in shapes]
        optimizer = chain(parts, weight_decay=0.1)(params)
        for _ in range(6):
            for i, param in enumerate(param for param in params if param.numel()):
                param.grad = torch.linspace(-1, 2 + i, param.numel(), dtype=torch.float64).reshape(param.shape)
            for param in params:
                param.grad = torch.zeros_like(param) if param.grad is None else param.grad
            optimizer.step()
        ends.append([param.detach() for param in params if param.numel()])
    assert distance(*ends) < 1e-12


@EVERY_CHAIN
def test_bfloat16_weights_keep_their_dtype_and_stay_close_to_float64(parts: list[Any]) -> None:
    wide, narrow = random_params(), [Parameter(param.detach().bfloat16()) for param in random_params()]
    ends = [walk(chain(parts, weight_decay=0.1)(params), params, range(7)) for params in (wide, narrow)]
    assert all(param.dtype == torch.bfloat16 and param.isfinite().all() for param in ends[1])
    assert distance(*ends) < 0.15
    assert distance(ends[0], random_params()) > 0.02


# Operations


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_host_never_waits_for_the_device(make: Any, device: str) -> None:
    """On the `meta` device there are no values to wait for."""
    params = [Parameter(torch.ones(shape, device=device)) for shape in SHAPES]
    optimizer = make(params)
    with Operations() as operations:
        for step in range(7):
            for param in params:
                param.grad = torch.ones_like(param)
            if step % 3 == 0:
                params[2].grad = None
            optimizer.step()
    assert sum(operations.names.values()) > 7 * len(params)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool((x > 0).all()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x + 1),
    ],
)
def test_the_check_notices_a_host_that_waits(wait: Any) -> None:
    with pytest.raises(RuntimeError, match="makes the host wait"), Operations():
        wait(torch.ones(3))
    with pytest.raises(Exception), Operations():
        wait(torch.ones(3, device="meta"))


@pytest.mark.parametrize(("device", "most"), [("meta", 220), ("cpu", 1300)])
def test_a_step_of_resnet50_takes_few_operations(device: str, most: int) -> None:
    """The step is a lookahead merge, for which the step counts are set. Off the CPU there is only one bucket."""
    with torch.device(device):
        params = list(timm.create_model("resnet50").parameters())
    assert len(params) == 161
    optimizer, counts = Ranger21(params), {}
    for param in params:
        param.grad = torch.empty_like(param)
    optimizer.step()
    for scope in ("layer", "global"):
        optimizer.param_groups[0]["stable_decay"] = scope
        for param in params:
            optimizer.state[param]["step"] = 4
        with Operations() as operations:
            optimizer.step()
        assert operations.names["_foreach_copy_"] > 0, "that is the merge"
        counts[scope] = sum(operations.names.values())
    assert max(counts.values()) <= most, counts


# Precision


def test_float32_follows_float64_for_200_steps() -> None:
    """Both sides use the gradients of the float64 side of a least squares problem, so they differ only by rounding."""
    rng = np.random.default_rng(0)
    data, answers = torch.tensor(rng.normal(size=(64, 6))), torch.tensor(rng.normal(size=(64, 5)))
    wide = [Parameter(torch.tensor(rng.normal(size=shape))) for shape in [(5, 6), (5,), ()]]
    narrow = [Parameter(param.detach().float()) for param in wide]
    start = [param.detach().clone() for param in wide]
    optimizers = Ranger21(wide, lr=1e-2), Ranger21(narrow, lr=1e-2)
    largest = 0.0
    for _ in range(200):
        loss = ((data @ wide[0].T * wide[2] + wide[1] - answers) ** 2).mean()
        optimizers[0].zero_grad()
        loss.backward()
        for one, other in zip(wide, narrow, strict=True):
            other.grad = one.grad.float()
        for optimizer in optimizers:
            optimizer.step()
        for one, other in zip(wide, narrow, strict=True):
            largest = max(largest, float((one.detach() - other.detach().double()).norm() / one.detach().norm()))
    assert distance(wide, start) > 0.3
    assert largest < 1e-4
