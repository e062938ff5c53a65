"""Ranger21's arithmetic: golden trajectories, every argument, AdamW as a special case, the errata, the schedule."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.optimizers import CHANGES, OFF, largest_error, make_grads, make_params, take_step
from support.reference import Reference
from support.reference import explore_exploit as slow_explore_exploit
from torch import Tensor
from torch.nn import Parameter

from ranger21 import Ranger21
from ranger21.optim.schedules import constant, cosine, explore_exploit

GOLDEN = sorted(Path(__file__).with_name("golden").glob("paper-*.npz"))


def trajectory(kwargs: dict, steps: int = 11) -> Tensor:
    params = make_params()
    optimizer = Ranger21(params, **kwargs)
    for grads in make_grads(steps):
        take_step(optimizer, params, grads)
    return torch.cat([p.detach().flatten() for p in params])


# Trajectories


def test_there_are_eight_golden_files() -> None:
    assert len(GOLDEN) == 8


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_trajectory(path: Path) -> None:
    golden = np.load(path)
    kwargs, names, t_max = json.loads(str(golden["kwargs"])), golden["order"], int(golden["t_max"])
    lr = kwargs.pop("lr")
    params = [Parameter(torch.tensor(golden[f"init.{name}"])) for name in names]
    optimizer = Ranger21(params, lr=lr, **kwargs)
    slow = Reference([[golden[f"init.{name}"] for name in names]], **kwargs)
    for t, multiplier in enumerate(golden["multiplier"], start=1):
        assert explore_exploit(t, t_max) == pytest.approx(multiplier, abs=1e-14)
        assert slow_explore_exploit(t, t_max) == pytest.approx(multiplier, abs=1e-14)
        grads = [golden[f"grad.{name}"][t - 1] for name in names]
        expected = [golden[f"param.{name}"][t - 1] for name in names]
        optimizer.param_groups[0]["lr"] = lr * float(multiplier)
        take_step(optimizer, params, grads)
        slow.step([grads], lr * float(multiplier))
        assert largest_error(params, expected) < 1e-10, f"the class at step {t}"
        assert max(np.abs(a - b).max() for a, b in zip(slow.values()[0], expected, strict=True)) < 1e-10


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_every_argument_matters(name: str, value: object) -> None:
    changed = (trajectory({name: value}) - trajectory({})).abs().max()
    assert changed > 1e-7


def test_learning_rate_matters() -> None:
    assert (trajectory({"lr": 1e-3}) - trajectory({})).abs().max() > 1e-3


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_every_argument_can_be_set_for_one_group(name: str, value: object) -> None:
    params = make_params()
    values = [p.detach().numpy().copy() for p in params]
    optimizer = Ranger21([{"params": params[:4], name: value, "lr": 1e-2}, {"params": params[4:]}])
    slow = Reference([{"params": values[:4], name: value}, {"params": values[4:]}])
    for grads in make_grads(11):
        take_step(optimizer, params, grads)
        slow.step([grads[:4], grads[4:]], [1e-2, 3e-3])
    assert largest_error(params, [value for group in slow.values() for value in group]) < 1e-12


def test_a_misspelt_argument_of_a_group_is_refused_and_a_callers_own_key_is_kept() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'weigth_decay'\. Did you mean 'weight_decay'\?"):
        Ranger21([{"params": make_params(), "weigth_decay": 0.0}])
    optimizer = Ranger21([{"params": make_params(), "name": "all", "initial_lr": 1e-3, "lr_scale": 0.5}])
    assert optimizer.param_groups[0]["name"] == "all"


@pytest.mark.parametrize("weight_decay", [0.0, 1e-4, 0.3])
def test_ranger21_with_all_ingredients_off_is_adamw(weight_decay: float) -> None:
    settings = {"betas": (0.85, 0.99), "eps": 1e-7, "weight_decay": weight_decay}
    ranger_params, adamw_params = make_params(), make_params()
    optimizers = Ranger21(ranger_params, **OFF, **settings), torch.optim.AdamW(adamw_params, **settings)
    for t, grads in enumerate(make_grads(40), start=1):
        for optimizer, params in zip(optimizers, (ranger_params, adamw_params), strict=True):
            optimizer.param_groups[0]["lr"] = 1e-2 * explore_exploit(t, 40)
            take_step(optimizer, params, grads)
        assert largest_error(ranger_params, [p.detach().numpy() for p in adamw_params]) < 1e-12


# The errata


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_decay_with_vanishing_gradients_reaches_the_target_but_not_beyond(scope: str, dtype: torch.dtype) -> None:
    """Erratum E3. The decay's share of a step is the difference from a twin with the same state and no decay."""
    params = make_params(dtype)[:2]
    with torch.no_grad():
        params[0][0].zero_()
        params[0][1].mul_(1e-3)
    optimizer = Ranger21(params, stable_decay=scope, lookahead_k=0)
    reached = []
    for size in (0.0, 1e-12, 1e-7, 3e-7, 1e-3, 1.0):
        before = params[0].detach().clone()
        twin_params, twin = copy.deepcopy((params, optimizer))
        twin.param_groups[0]["weight_decay"] = 0.0
        grads = [size * g for g in make_grads(1)[0][:2]]
        take_step(optimizer, params, grads)
        take_step(twin, twin_params, grads)
        assert all(p.isfinite().all() for p in params)
        old = before.flatten(1).norm(dim=1)
        new = (before + params[0].detach() - twin_params[0].detach()).flatten(1).norm(dim=1)
        alive = old > 0
        assert (new[~alive] == 0).all(), "a zero unit is not moved by the decay"
        low, high = old.clamp(max=1), old.clamp(min=1)
        assert ((new >= low - 1e-5) & (new <= high + 1e-5))[alive].all(), (size, old, new)
        reached.append(bool(((new[alive] - 1).abs() < 1e-5).all()))
    assert reached[0] is False
    assert any(reached), "the cap was never reached: the test tests nothing"


@pytest.mark.parametrize(("norm_loss", "target"), [(True, 1.0), (False, 0.0)])
def test_plain_decay_is_capped_too(norm_loss: bool, target: float) -> None:
    rows = Parameter(torch.tensor([[3.0, -4.0], [0.1, 0.2]], dtype=torch.float64))
    optimizer = Ranger21([rows], lr=0.1, weight_decay=50.0, stable_decay=None, norm_loss=norm_loss)
    take_step(optimizer, [rows], [np.zeros((2, 2))])
    assert rows.detach().norm(dim=1).tolist() == pytest.approx([target, target], abs=1e-12)


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-30, 1e-8])
@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (2, 3)])
def test_units_with_a_norm_near_zero_stay_finite(shape: tuple[int, ...], size: float) -> None:
    """1 / norm overflows where the norm is subnormal."""
    for grad in (1e-7, 1.0):
        param = Parameter(torch.full(shape, size, dtype=torch.float32))
        optimizer = Ranger21([param])
        for sign in (1, -1, 1):
            take_step(optimizer, [param], [np.full(shape, sign * grad)])
            assert param.isfinite().all()
            assert param.abs().max() < 1.1


def test_a_unit_of_one_element_is_not_centralized() -> None:
    """Erratum E4. Centralizing would make the gradient of such a unit zero."""
    for shape in [(3, 1, 1, 1), (3, 1), (1, 1)]:
        gain = Parameter(torch.ones(shape, dtype=torch.float64))
        take_step(Ranger21([gain]), [gain], [np.ones(shape)])
        assert (gain < 1 - 1e-4).all()


def test_a_common_shift_of_a_gradient_is_centralized_away() -> None:
    rows = Parameter(torch.eye(3, 4, dtype=torch.float64))
    take_step(Ranger21([rows], weight_decay=0.0), [rows], [np.ones((3, 4))])
    assert torch.equal(rows.detach(), torch.eye(3, 4, dtype=torch.float64))


# Layouts and precisions


def test_float32_and_strided_parameters_follow_the_reference() -> None:
    torch.manual_seed(0)
    transposed, strided = torch.randn(6, 4).t(), torch.randn(4, 10)[:, ::2]
    permuted, sliced = torch.randn(3, 2, 4).permute(2, 0, 1), torch.randn(8)[1::2]
    params = [Parameter(view) for view in (transposed, strided, permuted, sliced)]
    assert not any(p.is_contiguous() for p in params)
    slow = Reference([[p.detach().double().numpy() for p in params]])
    optimizer = Ranger21(params)
    rng = np.random.default_rng(2)
    for _ in range(12):
        grads = [rng.normal(size=p.shape).astype(np.float32) for p in params]
        take_step(optimizer, params, grads)
        slow.step([grads], 3e-3)
    assert all(p.dtype == torch.float32 for p in params)
    assert largest_error(params, slow.values()[0]) < 1e-5


def test_channels_last_changes_nothing() -> None:
    plain = Parameter(torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    last = Parameter(plain.detach().clone(memory_format=torch.channels_last))
    optimizers = Ranger21([plain]), Ranger21([last])
    rng = np.random.default_rng(3)
    for step in range(12):
        grad = torch.tensor(rng.normal(size=plain.shape))
        plain.grad = grad
        last.grad = grad.contiguous(memory_format=torch.channels_last) if step % 2 else grad
        for optimizer in optimizers:
            optimizer.step()
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scope", [None, "layer", "global"])
def test_bfloat16_weights_keep_their_dtype_and_stay_close_to_float64(scope: str | None) -> None:
    half, full = make_params(torch.bfloat16), make_params(torch.float64)
    start = [p.detach().numpy().copy() for p in full]
    optimizers = Ranger21(half, stable_decay=scope, lr=3e-2), Ranger21(full, stable_decay=scope, lr=3e-2)
    for grads in make_grads(12):
        take_step(optimizers[0], half, grads)
        take_step(optimizers[1], full, grads)
    assert all(p.dtype == torch.bfloat16 and p.isfinite().all() for p in half)
    assert largest_error(full, start) > 0.1
    assert largest_error(half, [p.detach().numpy() for p in full]) < 0.1


def test_empty_tensors_are_accepted() -> None:
    params = [Parameter(torch.zeros(shape)) for shape in [(0,), (3, 0), (0, 3), (2,)]]
    for scope in ("layer", "global"):
        take_step(Ranger21(params, stable_decay=scope), params, [np.ones(p.shape) for p in params])
    assert (params[-1] != 0).all()
    assert params[-1].isfinite().all()


# The schedule


@pytest.mark.parametrize(
    ("step", "multiplier"),
    [(1, 5e-4), (500, 0.25), (1000, 0.5), (2000, 1), (2200, 1), (5000, 1), (7200, 1), (8600, 0.5), (9999, 1 / 2800)],
)
def test_the_default_schedule_matches_figure_1(step: int, multiplier: float) -> None:
    assert explore_exploit(step, 10_000) == pytest.approx(multiplier, rel=1e-12)


def test_schedule_rises_stays_and_falls() -> None:
    values = np.array([explore_exploit(step, 10_000) for step in range(1, 10_001)])
    assert (np.diff(values[:2000]) > 0).all()
    assert values[1999:7200] == pytest.approx(1, abs=1e-12)
    assert (np.diff(values[7199:]) < 0).all()
    assert values[-1] == 0
    assert values.min() >= 0


def test_warmup_warmdown_and_beta2_set_the_schedules_shape() -> None:
    assert explore_exploit(11, 100) == pytest.approx(11 / 22), "a short run warms up over 22 % of it"
    assert explore_exploit(100, 10_000, beta2=0.99) == pytest.approx(0.5), "2 / (1 - beta2) steps"
    assert explore_exploit(5, 100, warmup=0.1) == pytest.approx(0.5)
    assert explore_exploit(75, 100, warmdown=0.5) == pytest.approx(0.5)
    assert explore_exploit(1, 100, warmup=0) == 1
    assert explore_exploit(99, 100, warmdown=0) == 1
    assert 0 < explore_exploit(50, 100, warmup=1, warmdown=1) <= 0.5


@pytest.mark.parametrize("schedule", [explore_exploit, cosine])
def test_learning_rates_after_the_end_are_not_negative(schedule: object) -> None:
    assert [schedule(step, 10) for step in (10, 11, 1000)] == [pytest.approx(0, abs=1e-15)] * 3
    assert min(schedule(step, 10) for step in range(1, 100)) >= 0


def test_constant_and_cosine_give_their_formulas_values() -> None:
    assert {constant(step, 7) for step in range(1, 8)} == {1.0}
    assert [cosine(step, 8) for step in (2, 4, 8)] == pytest.approx([0.5 + math.sqrt(0.125), 0.5, 0])


@pytest.mark.parametrize("schedule", [explore_exploit, constant, cosine])
@pytest.mark.parametrize(
    ("step", "total_steps", "name"), [(1, 0, "total_steps"), (1, -5, "total_steps"), (-1, 9, "step")]
)
def test_schedules_refuse_invalid_step_numbers(schedule: object, step: int, total_steps: int, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        schedule(step, total_steps)


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n in ("warmup", "warmdown", "beta2") for v in (-0.1, 1.5, math.nan, math.inf)] + [("beta2", 1.0)],
)
def test_the_schedule_refuses_invalid_fractions(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        explore_exploit(1, 10, **{name: value})
