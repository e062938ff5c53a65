"""Ranger21 as a torch.optim optimizer: saving, copying, schedulers, gradient scaling, groups and arguments."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from ranger21 import Ranger21
from ranger21.optim.schedules import explore_exploit

SHAPES = [(4, 3, 2, 2), (3, 5), (4, 1, 1, 1), (6,), ()]

BAD = [
    *[(name, value) for name in ("lr", "pnm_beta", "eps", "weight_decay") for value in (-0.1, math.nan, math.inf, "1")],
    *[("betas", value) for value in [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, -0.1), (0.9, math.nan), (0.9,), 0.9]],
    *[("agc_clipping", value) for value in (-0.1, math.nan, math.inf, "none")],
    *[("agc_eps", value) for value in (-0.1, math.nan, None)],
    *[(name, value) for name in ("centralize", "pnm", "norm_loss") for value in ("yes", None, 2)],
    *[("stable_decay", value) for value in ("layers", True, False, 1)],
    *[("lookahead_k", value) for value in (-1, 2.5, math.nan, "5", None)],
    *[("lookahead_beta", value) for value in (-0.1, 1.0, 1.5, math.nan)],
]


def make_params(dtype: torch.dtype = torch.float32) -> list[Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def set_grads(params: list[Parameter], step: int) -> None:
    """Set gradients; every third step, the last but one parameter has none, so that step counts differ."""
    generator = torch.Generator().manual_seed(step)
    for i, param in enumerate(params):
        grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        param.grad = None if i == len(SHAPES) - 2 and step % 3 == 0 else grad


def run(optimizer: Ranger21, params: list[Parameter], start: int, stop: int) -> list[Parameter]:
    for step in range(start, stop):
        set_grads(params, step)
        optimizer.step()
    return params


def same(a: list[Parameter], b: list[Parameter]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def same_state(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) if isinstance(a[key], Tensor) else a[key] == b[key] for key in a
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("stop", [0, 1, 2, 5, 7])
def test_state_dict_resumes_bit_for_bit(stop: int, dtype: torch.dtype) -> None:
    params = make_params(dtype)
    optimizer = Ranger21(params, lr=0.02, weight_decay=1e-2, stable_decay="global")
    run(optimizer, params, 0, stop)
    file = io.BytesIO()
    torch.save({"params": params, "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed_params = saved["params"]
    resumed = Ranger21(resumed_params)
    resumed.load_state_dict(saved["optimizer"])
    run(optimizer, params, stop, stop + 7)
    run(resumed, resumed_params, stop, stop + 7)
    assert same(params, resumed_params)
    assert not same(params, make_params(dtype))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_of_an_optimizer_are_complete_and_independent(duplicate: object) -> None:
    params = make_params()
    optimizer = Ranger21(params, lr=0.02)
    run(optimizer, params, 0, 7)
    frozen = [p.detach().clone() for p in params]
    twin_params, twin = duplicate((params, optimizer))
    run(twin, twin_params, 7, 14)
    assert same(params, frozen), "the copy's steps must not move the original"
    assert not same(twin_params, frozen)
    assert same(run(optimizer, params, 7, 14), twin_params)


def explored(n: int) -> float:
    return explore_exploit(n + 1, 20)


SCHEDULERS = {
    "explore_exploit": (lambda optimizer: LambdaLR(optimizer, explored), explored),
    "cosine": (
        lambda optimizer: CosineAnnealingLR(optimizer, T_max=20),
        lambda n: (1 + math.cos(math.pi * n / 20)) / 2,
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_torch_scheduler_is_the_same_as_setting_lr(name: str) -> None:
    make, multiplier = SCHEDULERS[name]
    scheduled, by_hand = make_params(torch.float64), make_params(torch.float64)
    rates = (0.02, 0.005)
    optimizers = [
        Ranger21([{"params": p[:2]}, {"params": p[2:], "lr": rates[1]}], lr=rates[0]) for p in (scheduled, by_hand)
    ]
    scheduler = make(optimizers[0])
    for step in range(20):
        for group, rate in zip(optimizers[1].param_groups, rates, strict=True):
            group["lr"] = rate * multiplier(step)
        run(optimizers[0], scheduled, step, step + 1)
        run(optimizers[1], by_hand, step, step + 1)
        scheduler.step()
        for a, b in zip(scheduled, by_hand, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_scheduler_can_cycle_betas() -> None:
    params, twins = make_params(), make_params()
    optimizer, twin = Ranger21(params), Ranger21(twins)
    scheduler = OneCycleLR(optimizer, max_lr=0.02, total_steps=10)
    for step in range(9):
        twin.param_groups[0].update({key: optimizer.param_groups[0][key] for key in ("lr", "betas")})
        run(optimizer, params, step, step + 1)
        run(twin, twins, step, step + 1)
        scheduler.step()
    assert optimizer.param_groups[0]["betas"][0] != 0.9
    assert same(params, twins)


def test_grad_scaler_skips_an_infinite_gradient() -> None:
    params, twins = make_params(), make_params()
    optimizer, twin = Ranger21(params), Ranger21(twins)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for step, factor in enumerate([1.0, math.inf, 1.0]):
        before = copy.deepcopy(params), copy.deepcopy([optimizer.state[p] for p in params])
        set_grads(twins, 1 + step)
        loss = sum((p * t.grad * factor).sum() for p, t in zip(params, twins, strict=True) if t.grad is not None)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if factor == math.inf:
            assert same(params, before[0])
            assert all(same_state(optimizer.state[p], s) for p, s in zip(params, before[1], strict=True))
        else:
            twin.step()
            assert same(params, twins)
            assert not same(params, before[0])


def test_closure_runs_with_gradients_enabled_and_its_loss_is_returned() -> None:
    weight = Parameter(torch.tensor([2.0, -1.0]))
    optimizer = Ranger21([weight])
    seen = []

    def closure() -> Tensor:
        seen.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 5.0
    assert seen == [True]
    assert weight[0] < 2
    assert weight[1] > -1
    assert optimizer.step() is None


def test_a_group_added_later_counts_its_own_steps() -> None:
    params, alone, late = make_params(), make_params(), make_params()
    optimizer = Ranger21(params[:2])
    run(optimizer, params, 0, 3)
    assert same(params[2:], alone[2:])
    optimizer.add_param_group({"params": params[2:], "lr": 0.1, "pnm": False})
    run(optimizer, params, 3, 9)
    run(Ranger21(alone[:2]), alone, 0, 9)
    run(Ranger21(late[2:], lr=0.1, pnm=False), late, 3, 9)
    assert same(params, [*alone[:2], *late[2:]])


def test_a_parameter_without_a_gradient_does_not_change() -> None:
    params, twins = make_params(), make_params()
    optimizer, twin = Ranger21(params, weight_decay=0.1), Ranger21(twins, weight_decay=0.1)
    for step in range(7):
        set_grads(params, step)
        set_grads(twins, step)
        optimizer.step()
        twin.step()
        frozen = copy.deepcopy(params), copy.deepcopy([optimizer.state[p] for p in params])
        for param in params[1:]:
            param.grad = None
        optimizer.step()
        assert not torch.equal(params[0], frozen[0][0])
        assert all(same_state(optimizer.state[p], s) for p, s in zip(params[1:], frozen[1][1:], strict=True))
        assert same(params[1:], twins[1:])


def test_a_parameter_without_a_gradient_gets_no_state() -> None:
    used, unused = Parameter(torch.ones(3, 2)), Parameter(torch.ones(3, 2))
    optimizer = Ranger21([used, unused])
    used.grad = torch.ones(3, 2)
    optimizer.step()
    assert list(optimizer.state_dict()["state"]) == [0]
    assert (unused == 1).all()


def test_step_does_not_change_gradients() -> None:
    params = make_params()
    optimizer = Ranger21(params)
    set_grads(params, 1)
    grads = [(p.grad, p.grad.clone()) for p in params]
    optimizer.step()
    for param, (grad, value) in zip(params, grads, strict=True):
        assert param.grad is grad
        assert torch.equal(grad, value)


@pytest.mark.parametrize("kwargs", [{}, {"agc_clipping": None, "centralize": False, "pnm": False}])
def test_sparse_gradients_are_refused_before_any_weight_moves(kwargs: dict) -> None:
    first, embedding = Parameter(torch.ones(3)), torch.nn.Embedding(5, 2, sparse=True)
    before = embedding.weight.detach().clone()
    first.grad = torch.ones(3)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises((RuntimeError, TypeError, ValueError), match=r"Ranger21.*sparse"):
        Ranger21([first, embedding.weight], **kwargs).step()
    assert (first == 1).all()
    assert torch.equal(embedding.weight, before)


@pytest.mark.parametrize("kwargs", [{}, {"agc_clipping": None, "centralize": False, "pnm": False}])
def test_complex_gradients_are_refused(kwargs: dict) -> None:
    weight = Parameter(torch.ones(3, dtype=torch.complex64))
    weight.grad = torch.ones_like(weight)
    with pytest.raises((RuntimeError, TypeError, ValueError), match=r"Ranger21.*complex"):
        Ranger21([weight], **kwargs).step()
    assert (weight == 1).all()


@pytest.mark.parametrize(("name", "value"), BAD)
def test_error_names_the_bad_argument(name: str, value: object) -> None:
    optimizer = Ranger21([Parameter(torch.ones(2))])
    attempts = [
        lambda: Ranger21([Parameter(torch.ones(2))], **{name: value}),
        lambda: Ranger21([{"params": [Parameter(torch.ones(2))], name: value}]),
        lambda: optimizer.add_param_group({"params": [Parameter(torch.ones(2))], name: value}),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match=name) as error:
            attempt()
        assert repr(value) in str(error.value)
    assert len(optimizer.param_groups) == 1, "a refused group must not stay"


def test_importing_the_optimizer_loads_only_torch() -> None:
    code = (
        "import sys, torch; before = {name.split('.')[0] for name in sys.modules}; from ranger21 import Ranger21; "
        "print(*sorted({name.split('.')[0] for name in sys.modules} - before - set(sys.stdlib_module_names)))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ranger21"]
