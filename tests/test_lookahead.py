"""Lookahead around optimizers of other libraries."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.optimizers import distance, random_params, resumes_exactly, same, walk
from timm.optim import Lars, Lion
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ranger21 import Ranger21
from ranger21.optim.lookahead import Lookahead

INNER: dict[str, Callable[[list[Parameter]], Optimizer]] = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "fused adamw": lambda params: torch.optim.AdamW(params, lr=0.02, fused=True),
    "adagrad": lambda params: torch.optim.Adagrad(params, lr=0.05),
    "rmsprop": lambda params: torch.optim.RMSprop(params, lr=0.01, momentum=0.5, centered=True),
    "timm's lion": lambda params: Lion(params, lr=0.01, weight_decay=0.1),
    "timm's lars": lambda params: Lars(params, lr=0.5, momentum=0.9, trust_coeff=0.1, always_adapt=True),
}
EVERY_INNER = pytest.mark.parametrize("make", INNER.values(), ids=INNER)


def by_hand(inner: Optimizer, params: list[Parameter], steps: range, k: int, beta: float) -> list[Tensor]:
    """Run the optimizer with lookahead written out, with a step count and slow weights for every parameter."""
    slow, counts = [param.detach().clone() for param in params], [0] * len(params)
    for step in steps:
        walk(inner, params, [step])
        for i, param in enumerate(params):
            counts[i] += param.grad is not None
            if param.grad is not None and counts[i] % k == 0:
                slow[i] = beta * slow[i] + (1 - beta) * param.detach()
                with torch.no_grad():
                    param.copy_(slow[i])
    return [param.detach().clone() for param in params]


@EVERY_INNER
@pytest.mark.parametrize(("k", "beta"), [(5, 0.5), (3, 0.8), (1, 0.0)])
def test_lookahead_matches_the_loop_written_out(k: int, beta: float, make: Callable) -> None:
    params, twins = random_params(), random_params()
    ours = walk(Lookahead(make(params), k, beta), params, range(17))
    assert distance(ours, by_hand(make(twins), twins, range(17), k, beta)) < 1e-12
    params = random_params()
    plain = walk(make(params), params, range(17))
    assert (distance(ours, plain) > 1e-3) == ((k, beta) != (1, 0.0)), "k = 1 with beta = 0 has no effect"


def test_k_and_beta_change_the_result() -> None:
    ends = []
    for kwargs in ({}, {"k": 4}, {"beta": 0.6}):
        params = random_params()
        ends.append(walk(Lookahead(INNER["sgd"](params), **kwargs), params, range(12)))
    assert distance(ends[0], ends[1]) > 1e-3
    assert distance(ends[0], ends[2]) > 1e-3
    params = random_params()
    assert same(ends[0], walk(Lookahead(INNER["sgd"](params), 5, 0.5), params, range(12)))


@pytest.mark.parametrize(("name", "value"), [("k", 0), ("k", 2.5), ("k", True), ("beta", 1.0), ("beta", math.nan)])
def test_bad_arguments_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"lookahead: {name} = {value}"):
        Lookahead(INNER["sgd"](random_params()), **{name: value})


@EVERY_INNER
def test_state_dict_resumes_bit_for_bit(make: Callable) -> None:
    """The state is saved right after a merge, and between two merges."""
    for stop in (5, 8):
        assert resumes_exactly(lambda params: Lookahead(make(params)), random_params(), stop, 14)


@EVERY_INNER
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_are_complete_and_independent(duplicate: Any, make: Callable) -> None:
    params = random_params()
    optimizer = Lookahead(make(params), k=3, beta=0.8)
    frozen = walk(optimizer, params, range(7))
    twin_params, twin = duplicate((params, optimizer))
    moved = walk(twin, twin_params, range(7, 14))
    assert same(params, frozen)
    assert distance(moved, frozen) > 1e-3
    assert same(walk(optimizer, params, range(7, 14)), moved)


@pytest.mark.parametrize("outer", [True, False])
def test_a_scheduler_works_with_lookahead_and_with_the_inner_optimizer(outer: bool) -> None:
    params, twins = random_params(), random_params()
    optimizer, twin = Lookahead(INNER["fused adamw"](params)), Lookahead(INNER["fused adamw"](twins))
    scheduler = LambdaLR(optimizer if outer else optimizer.inner, lambda step: 1 / (1 + step))
    for step in range(12):
        twin.inner.param_groups[0]["lr"] = 0.02 / (1 + step)
        assert distance(walk(optimizer, params, [step]), walk(twin, twins, [step])) < 1e-12
        scheduler.step()
    assert scheduler.get_last_lr() == [pytest.approx(0.02 / 13)]


def test_a_scheduler_still_works_after_a_state_was_loaded() -> None:
    optimizer = Lookahead(INNER["sgd"](random_params()))
    optimizer.load_state_dict(optimizer.state_dict())
    LambdaLR(optimizer, lambda step: 0.5)
    assert optimizer.inner.param_groups[0]["lr"] == 0.025
    assert optimizer.param_groups is optimizer.inner.param_groups
    assert optimizer.state is optimizer.inner.state


@pytest.mark.parametrize("name", ["sgd", "fused adamw"])
def test_grad_scaler_skips_an_infinite_gradient(name: str) -> None:
    """A skipped step does not count towards the next merge."""
    params, twins = random_params(), random_params()
    optimizer, twin = Lookahead(INNER[name](params), k=2), Lookahead(INNER[name](twins), k=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for step, factor in enumerate([1.0, math.inf, 1.0, 1.0]):
        before = [param.detach().clone() for param in params]
        grads = [param.detach() for param in random_params(seed=step)]
        optimizer.zero_grad()
        scaler.scale(sum((p * g * factor).sum() for p, g in zip(params, grads, strict=True))).backward()
        scaler.step(optimizer)
        scaler.update()
        assert same(params, before) == (factor == math.inf)
        if factor != math.inf:
            for param, grad in zip(twins, grads, strict=True):
                param.grad = grad
            twin.step()
            assert distance(params, twins) < 1e-12


def test_a_group_can_be_added() -> None:
    params, alone, late = random_params(), random_params(), random_params()
    optimizer = Lookahead(INNER["sgd"](params[:3]))
    walk(optimizer, params, range(3), sparse=False)
    assert same(params[3:], alone[3:])
    optimizer.add_param_group({"params": params[3:], "lr": 0.01})
    assert len(optimizer.param_groups) == len(optimizer.inner.param_groups) == 2
    ends = walk(optimizer, params, range(3, 12), sparse=False)
    expected = walk(Lookahead(INNER["sgd"](alone[:3])), alone, range(12), sparse=False)[:3]
    latecomer = Lookahead(INNER["sgd"](late[3:]))
    latecomer.param_groups[0]["lr"] = 0.01
    expected += walk(latecomer, late, range(3, 12), sparse=False)[3:]
    assert same(ends, expected), "the new parameters merge at their own fifth step"


def test_step_runs_the_closure_and_returns_its_loss() -> None:
    weight = Parameter(torch.tensor([2.0, -1.0]))
    optimizer = Lookahead(torch.optim.SGD([weight], lr=0.1))

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 5.0
    assert weight.detach().tolist() == pytest.approx([1.6, -0.8])


@pytest.mark.parametrize(
    "make", [lambda params: Ranger21(params, lr=0.02, lookahead_k=3), lambda params: Lookahead(INNER["sgd"](params), 3)]
)
def test_nested_lookahead_is_refused_or_has_separate_slow_weights(make: Callable) -> None:
    """One around the other means two merges: they must not share their slow weights."""
    params, twins = random_params(), random_params()
    try:
        optimizer = Lookahead(make(params), k=4)
    except ValueError as error:
        assert "lookahead" in str(error).lower()
        return
    ours = walk(optimizer, params, range(17))
    assert distance(ours, by_hand(make(twins), twins, range(17), 4, 0.5)) < 1e-12
