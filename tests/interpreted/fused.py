"""Tests of the fused step by Triton's interpreter, for which TRITON_INTERPRET=1 must be set before torch is imported.

tests/test_fused.py runs them in a process of their own. The interpreter cuts bfloat16 off where a GPU rounds it.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fused import OFF, SHAPES, largest_difference, make_params, states, walk
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ranger21 import Ranger21
from ranger21.optim import chain, reference
from ranger21.optim.chain import Chain
from ranger21.optim.fused.tables import Uploaded

assert os.environ.get("TRITON_INTERPRET") == "1", "run tests/test_fused.py"


@pytest.fixture(autouse=True)
def without_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's check of itself compares the same two, by less: fused_check.py has its tests."""
    monkeypatch.setattr(chain, "agrees_with_foreach", lambda *_: True)


def require_alike(ours: Optimizer, theirs: Optimizer, tolerance: float = 1e-6) -> None:
    """The same state, of the same layout, within rounding."""
    assert len(states(ours)) == len(states(theirs))
    for mine, its in zip(states(ours), states(theirs), strict=True):
        assert mine.keys() == its.keys() and mine["step"] == its["step"] and type(mine["step"]) is int
        kept = [name for name in mine if name != "step"]
        assert all(mine[name].dtype == its[name].dtype for name in kept)
        assert largest_difference([mine[name] for name in kept], [its[name] for name in kept]) < tolerance


def duel(steps: int, shapes: Sequence[tuple[int, ...]] = SHAPES, missing: int = -1, **switches: Any) -> None:
    """The fused step goes where foreach goes."""
    mine, its = make_params(shapes), make_params(shapes)
    ours, theirs = Ranger21(mine, fused=True, **switches), Ranger21(its, fused=False, **switches)
    assert largest_difference(walk(ours, mine, range(steps), missing), walk(theirs, its, range(steps), missing)) < 1e-6
    require_alike(ours, theirs)


def test_it_is_the_paper_s_step() -> None:
    params, kept = make_params(), [dict[str, Any]() for _ in SHAPES]
    weights = [param.detach().clone() for param in params]
    optimizer = Ranger21(params, lr=1e-2, weight_decay=0.1, fused=True)
    for step in range(5):
        walk(optimizer, params, range(step, step + 1))
        pairs = zip(weights, params, kept, strict=True)
        weights = [reference.step(θ, param.grad, state, 1e-2, λ=0.1) for θ, param, state in pairs]  # type: ignore[arg-type]
        assert largest_difference(params, weights) < 1e-6


shape = st.lists(st.integers(1, 4), max_size=4).map(tuple).filter(lambda x: not x or x[0] < 4)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    shapes=st.lists(shape, min_size=1, max_size=2),
    switches=st.fixed_dictionaries(
        {"lr": st.sampled_from([3e-3, 0.1]), "weight_decay": st.sampled_from([0.0, 1e-2, 1.0])},
        optional={
            "agc_clipping": st.sampled_from([None, 0.1]), "centralize": st.just(False), "pnm": st.just(False),
            "stable_decay": st.sampled_from([None, "global"]), "norm_loss": st.just(False),
            "lookahead_k": st.sampled_from([0, 2]), "maximize": st.just(True), "betas": st.just((0.0, 0.5)),
        },
    ),
)  # fmt: skip
def test_every_switch_as_foreach_has_it(shapes: list[tuple[int, ...]], switches: dict[str, Any]) -> None:
    duel(3, shapes, **switches)


def test_everything_off_is_adamw() -> None:
    params, twins = make_params(), make_params()
    ours = Chain(params, 1e-2, ["first_moment", "second_moment", "decay"], weight_decay=0.1, fused=True)
    theirs = torch.optim.AdamW(twins, lr=1e-2, weight_decay=0.1)
    assert largest_difference(walk(ours, params, range(4)), walk(theirs, twins, range(4))) < 1e-6


def test_tensors_of_every_layout() -> None:
    """Transposed, channels_last, rows beyond a block, without elements; and gradients in strides of their own."""
    duel(2, [(1, 2500), (0, 3), (1500,)])

    def odd() -> list[Parameter]:
        transposed, last = make_params([(3, 4), (2, 3, 2, 2)])
        return [Parameter(transposed.detach().t()), Parameter(last.detach().to(memory_format=torch.channels_last))]

    mine, its = odd(), odd()
    ours, theirs = Ranger21(mine, fused=True), Ranger21(its, foreach=True)
    assert largest_difference(walk(ours, mine, range(3)), walk(theirs, its, range(3))) < 1e-6
    plain = Ranger21(copied := [Parameter(param.detach().contiguous()) for param in mine], fused=True)
    plain.load_state_dict(ours.state_dict())  # whose state is laid out as the other parameters were
    assert largest_difference(walk(plain, copied, range(3, 5)), walk(ours, mine, range(3, 5))) < 1e-6


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 1e-6), (torch.bfloat16, 1e-4)])
def test_half_precision_and_what_rounding_takes(dtype: torch.dtype, most: float) -> None:
    mine, its = make_params(dtype=dtype), make_params(dtype=dtype)
    ours, theirs = Ranger21(mine, lr=1e-4, fused=True), Ranger21(its, lr=1e-4, fused=False)
    walk(ours, mine, range(2))
    walk(theirs, its, range(2))
    exact = [[p.float() + o.state[p]["kahan_comp"].float() for p in ps] for o, ps in ((ours, mine), (theirs, its))]
    assert largest_difference(*exact) < most
    lossy = Ranger21(rounded := make_params(dtype=dtype), fused=True, kahan_sum=False)
    walk(lossy, rounded, range(1))
    assert all("kahan_comp" not in state and state["exp_avg_sq"].dtype == torch.float32 for state in states(lossy))


def test_parameters_without_a_gradient_are_left_alone() -> None:
    duel(5, missing=0, lookahead_k=2)
    duel(2, missing=1, stable_decay="global", weight_decay=0.1)


@pytest.mark.parametrize("second", [True, False])
def test_a_global_mean_over_groups(second: bool) -> None:
    """One without decay, which has its share in the mean too, be it fused or not."""
    ends = []
    for fused in ((True, second), (False, False)):
        params = make_params()
        groups: list[dict[str, Any]] = [{"params": params[:2], "fused": fused[0]}]
        groups.append({"params": params[2:], "fused": fused[1], "weight_decay": 0.0, "lr": 1e-2})
        ends.append(walk(Ranger21(groups, stable_decay="global", weight_decay=0.5), params, range(3)))
    assert largest_difference(*ends) < 1e-6


def test_a_gradient_scaler_leaves_it_to_the_step() -> None:
    params, twins = make_params(), make_params()
    ours, theirs = Ranger21(params, fused=True), Ranger21(twins, fused=True)
    assert ours._step_supports_amp_scaling and not Ranger21(make_params())._step_supports_amp_scaling
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for step in range(3):
        before, kept = copy.deepcopy(params), copy.deepcopy(states(ours))
        scaler.scale(sum((param * (step + 1)).sum() for param in params)).backward()  # type: ignore[union-attr]
        if step == 1:
            params[0].grad.view(-1)[0] = torch.inf  # type: ignore[union-attr]
        scaler.step(ours)
        scaler.update()
        if step == 1:
            assert all(torch.equal(x, y) for x, y in zip(params, before, strict=True))
            pairs = [(a[n], b[n]) for a, b in zip(states(ours), kept, strict=True) for n in a]
            assert all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)
        else:
            for twin in twins:
                twin.grad = torch.full_like(twin, step + 1)
            theirs.step()
        ours.zero_grad()
    assert largest_difference(params, twins) < 1e-6


def test_from_one_back_end_to_the_other_and_the_same_bits_again() -> None:
    params, twins, third = make_params(), make_params(), make_params()
    ours, again = Ranger21(params, fused=True), Ranger21(twins, fused=True)
    assert all(map(torch.equal, walk(ours, params, range(3)), walk(again, twins, range(3))))
    with torch.no_grad():
        for x, y in zip(third, params, strict=True):
            x.copy_(y)
    other = Ranger21(third, fused=False)
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert other.param_groups[0]["fused"] is False, "the machine's own choice"
    assert largest_difference(walk(ours, params, range(3, 6)), walk(other, third, range(3, 6))) < 1e-6
    again.load_state_dict(other.state_dict())
    with torch.no_grad():
        for x, y in zip(twins, third, strict=True):
            x.copy_(y)
    back = copy.deepcopy(again)
    assert all(
        map(torch.equal, walk(again, twins, range(7, 9)), walk(back, back.param_groups[0]["params"], range(7, 9)))
    )


def test_what_may_change_between_two_steps() -> None:
    """Where a weight's memory is, its rate as a tensor, and the sign."""
    ends = []
    for fused in (True, False):
        params = make_params()
        optimizer = Ranger21(params, lr=torch.tensor(1e-2), fused=fused, maximize=True)
        walk(optimizer, params, range(1))
        params[0].data = params[0].data.clone() * 2
        optimizer.param_groups[0]["lr"].fill_(1e-3)
        ends.append(walk(optimizer, params, range(1, 3)))
    assert largest_difference(*ends) < 1e-6


def test_a_backward_that_needs_the_weights_as_they_were_fails() -> None:
    (param,) = make_params([(2, 3)])
    optimizer = Ranger21([param], fused=True)
    loss = (param**2).sum()
    param.grad = torch.ones_like(param)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_only_tables_that_changed_go_up() -> None:
    uploaded = Uploaded(torch.device("cpu"))
    first, changed = uploaded.of([1, 2])
    assert changed and uploaded.of([1, 2]) == (first, False)
    assert uploaded.of([1, 3])[1]


def test_no_eps_and_a_gradient_too_small_for_its_square_is_no_step() -> None:
    ends = []
    for fused in (True, False):
        (param,) = params = [Parameter(torch.ones(2, 3))]
        optimizer = Ranger21(params, lr=1e-3, eps=0.0, fused=fused, **OFF)
        for size in (1e-24, 0.0, 1e-20):
            param.grad = torch.full((2, 3), size)
            optimizer.step()
        ends.append(param.detach().clone())
    assert largest_difference(*([end] for end in ends)) < 1e-6 and ends[0].isfinite().all()
