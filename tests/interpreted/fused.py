"""Test the fused step in Triton's interpreter; TRITON_INTERPRET=1 must be set before torch is imported.

tests/test_fused.py runs this file in a separate process. When converting to bfloat16, the interpreter truncates where
a GPU rounds.
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
def without_self_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the fused step's self-check, which compares the same two implementations; fused_check.py tests it."""
    monkeypatch.setattr(chain, "agrees_with_foreach", lambda *_: True)


def assert_same_state(ours: Optimizer, theirs: Optimizer, tolerance: float = 1e-6) -> None:
    """Assert that two optimizers' states agree: the same keys, step counts and dtypes, and nearly the same values."""
    assert len(states(ours)) == len(states(theirs))
    for mine, its in zip(states(ours), states(theirs), strict=True):
        assert mine.keys() == its.keys() and mine["step"] == its["step"] and type(mine["step"]) is int
        kept = [name for name in mine if name != "step"]
        assert all(mine[name].dtype == its[name].dtype for name in kept)
        assert largest_difference([mine[name] for name in kept], [its[name] for name in kept]) < tolerance


def assert_fused_matches_foreach(
    steps: int, shapes: Sequence[tuple[int, ...]] = SHAPES, missing: int = -1, **switches: Any
) -> None:
    """Assert that the fused and the foreach implementation reach the same weights and states."""
    mine, its = make_params(shapes), make_params(shapes)
    ours, theirs = Ranger21(mine, fused=True, **switches), Ranger21(its, fused=False, **switches)
    assert largest_difference(walk(ours, mine, range(steps), missing), walk(theirs, its, range(steps), missing)) < 1e-6
    assert_same_state(ours, theirs)


def test_fused_step_matches_the_reference_implementation() -> None:
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
def test_fused_matches_foreach_for_every_argument(shapes: list[tuple[int, ...]], switches: dict[str, Any]) -> None:
    assert_fused_matches_foreach(3, shapes, **switches)


def test_a_chain_of_adamws_parts_matches_torchs_adamw() -> None:
    params, twins = make_params(), make_params()
    ours = Chain(params, 1e-2, ["first_moment", "second_moment", "decay"], weight_decay=0.1, fused=True)
    theirs = torch.optim.AdamW(twins, lr=1e-2, weight_decay=0.1)
    assert largest_difference(walk(ours, params, range(4)), walk(theirs, twins, range(4))) < 1e-6


def test_fused_matches_foreach_for_every_memory_layout() -> None:
    """Long rows, empty, transposed and channels_last tensors, and gradients with other strides than their weights."""
    assert_fused_matches_foreach(2, [(1, 2500), (0, 3), (1500,)])

    def odd() -> list[Parameter]:
        transposed, last = make_params([(3, 4), (2, 3, 2, 2)])
        return [Parameter(transposed.detach().t()), Parameter(last.detach().to(memory_format=torch.channels_last))]

    mine, its = odd(), odd()
    ours, theirs = Ranger21(mine, fused=True), Ranger21(its, foreach=True)
    assert largest_difference(walk(ours, mine, range(3)), walk(theirs, its, range(3))) < 1e-6
    plain = Ranger21(copied := [Parameter(param.detach().contiguous()) for param in mine], fused=True)
    plain.load_state_dict(ours.state_dict())  # a state with the other parameters' memory layout
    assert largest_difference(walk(plain, copied, range(3, 5)), walk(ours, mine, range(3, 5))) < 1e-6


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 1e-6), (torch.bfloat16, 1e-4)])
def test_half_precision_with_and_without_kahan_summation(dtype: torch.dtype, most: float) -> None:
    mine, its = make_params(dtype=dtype), make_params(dtype=dtype)
    ours, theirs = Ranger21(mine, lr=1e-4, fused=True), Ranger21(its, lr=1e-4, fused=False)
    walk(ours, mine, range(2))
    walk(theirs, its, range(2))
    exact = [[p.float() + o.state[p]["kahan_comp"].float() for p in ps] for o, ps in ((ours, mine), (theirs, its))]
    assert largest_difference(*exact) < most
    lossy = Ranger21(rounded := make_params(dtype=dtype), fused=True, kahan_sum=False)
    walk(lossy, rounded, range(1))
    assert all("kahan_comp" not in state and state["exp_avg_sq"].dtype == torch.float32 for state in states(lossy))


def test_parameters_without_a_gradient_are_not_changed() -> None:
    assert_fused_matches_foreach(5, missing=0, lookahead_k=2)
    assert_fused_matches_foreach(2, missing=1, stable_decay="global", weight_decay=0.1)


@pytest.mark.parametrize("second", [True, False])
def test_global_stable_decay_averages_over_all_groups(second: bool) -> None:
    """A group with weight decay 0 counts in the mean too, whether it is fused or not."""
    ends = []
    for fused in ((True, second), (False, False)):
        params = make_params()
        groups: list[dict[str, Any]] = [{"params": params[:2], "fused": fused[0]}]
        groups.append({"params": params[2:], "fused": fused[1], "weight_decay": 0.0, "lr": 1e-2})
        ends.append(walk(Ranger21(groups, stable_decay="global", weight_decay=0.5), params, range(3)))
    assert largest_difference(*ends) < 1e-6


def test_fused_step_unscales_and_skips_infinite_gradients_itself() -> None:
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


def test_states_move_between_fused_and_foreach_and_fused_repeats_bit_for_bit() -> None:
    params, twins, third = make_params(), make_params(), make_params()
    ours, again = Ranger21(params, fused=True), Ranger21(twins, fused=True)
    assert all(map(torch.equal, walk(ours, params, range(3)), walk(again, twins, range(3))))
    with torch.no_grad():
        for x, y in zip(third, params, strict=True):
            x.copy_(y)
    other = Ranger21(third, fused=False)
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert other.param_groups[0]["fused"] is False, "`fused` is not restored from the state"
    assert largest_difference(walk(ours, params, range(3, 6)), walk(other, third, range(3, 6))) < 1e-6
    again.load_state_dict(other.state_dict())
    with torch.no_grad():
        for x, y in zip(twins, third, strict=True):
            x.copy_(y)
    back = copy.deepcopy(again)
    assert all(
        map(torch.equal, walk(again, twins, range(7, 9)), walk(back, back.param_groups[0]["params"], range(7, 9)))
    )


def test_a_moved_weight_and_a_changed_tensor_learning_rate_are_noticed() -> None:
    """A weight's memory moves and the learning rate, a tensor, changes between steps, with maximize=True."""
    ends = []
    for fused in (True, False):
        params = make_params()
        optimizer = Ranger21(params, lr=torch.tensor(1e-2), fused=fused, maximize=True)
        walk(optimizer, params, range(1))
        params[0].data = params[0].data.clone() * 2
        optimizer.param_groups[0]["lr"].fill_(1e-3)
        ends.append(walk(optimizer, params, range(1, 3)))
    assert largest_difference(*ends) < 1e-6


def test_backward_fails_if_it_needs_the_weights_from_before_the_step() -> None:
    (param,) = make_params([(2, 3)])
    optimizer = Ranger21([param], fused=True)
    loss = (param**2).sum()
    param.grad = torch.ones_like(param)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_only_changed_tables_are_uploaded() -> None:
    uploaded = Uploaded(torch.device("cpu"))
    first, changed = uploaded.of([1, 2])
    assert changed and uploaded.of([1, 2]) == (first, False)
    assert uploaded.of([1, 3])[1]


def test_with_eps_0_a_gradient_whose_square_underflows_gives_no_update() -> None:
    ends = []
    for fused in (True, False):
        (param,) = params = [Parameter(torch.ones(2, 3))]
        optimizer = Ranger21(params, lr=1e-3, eps=0.0, fused=fused, **OFF)
        for size in (1e-24, 0.0, 1e-20):
            param.grad = torch.full((2, 3), size)
            optimizer.step()
        ends.append(param.detach().clone())
    assert largest_difference(*([end] for end in ends)) < 1e-6 and ends[0].isfinite().all()
