"""What is promised of every optimizer of the project (the table in docs/optimizers.md), tested of each."""

from __future__ import annotations

import copy
import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from support.optimizers import (
    CHAINS,
    LOOKAHEADS,
    OWN_OPTIMIZERS,
    SHAPES,
    Operations,
    distance,
    random_params,
    same,
    walk,
)
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from ranger21 import Ranger21, parameter_groups
from ranger21.optim.chain import Chain
from ranger21.optim.lookahead import Lookahead

Make = Callable[..., Optimizer]
every = pytest.mark.parametrize("make", OWN_OPTIMIZERS.values(), ids=OWN_OPTIMIZERS)
every_or_around = pytest.mark.parametrize(
    "make", (OWN_OPTIMIZERS | LOOKAHEADS).values(), ids=OWN_OPTIMIZERS | LOOKAHEADS
)
STEPS = range(12)


def end(make: Make, dtype: torch.dtype = torch.float64, steps: Sequence[int] = STEPS, **kwargs: Any) -> list[Tensor]:
    params = [Parameter(param.detach().to(dtype)) for param in random_params()]
    return walk(make(params, **kwargs), params, steps)


# torch's switches


@every_or_around
def test_maximize_goes_the_other_way(make: Make) -> None:
    params = random_params()
    optimizer = make(params, maximize=True)
    for step in STEPS:
        rng = np.random.default_rng(step)
        grads = [torch.as_tensor(rng.normal(size=p.shape) * 10.0 ** (-(step % 4))) for p in params]
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            param.grad = None if i == len(params) - 2 and step % 3 == 0 else -grad
        optimizer.step()
    assert same([param.detach() for param in params], end(make))


@every_or_around
def test_one_tensor_at_a_time_is_the_same(make: Make) -> None:
    assert distance(end(make, foreach=False), end(make)) < 1e-12
    assert same(end(make, foreach=True), end(make))


@every
def test_counts_on_the_device_are_the_same(make: Make) -> None:
    """And nothing of a step depends on what the host knows of them: the same operations at every step but the first."""
    assert distance(end(make, capturable=True), end(make)) < 1e-12
    params = random_params()
    optimizer, seen = make(params, capturable=True), []
    for _ in STEPS:
        for param in params:
            param.grad = torch.ones_like(param)
        with Operations() as operations:
            optimizer.step()
        assert all(isinstance(optimizer.state[param]["step"], Tensor) for param in params)
        seen.append(operations.names)
    assert all(names == seen[1] for names in seen[2:])


@every
def test_capturable_can_be_switched_in_mid_run(make: Make) -> None:
    params = random_params()
    optimizer = make(params)
    for first, capturable in ((0, False), (4, True), (8, False)):
        optimizer.param_groups[0]["capturable"] = capturable
        found = walk(optimizer, params, range(first, first + 4))
    assert distance(found, end(make)) < 1e-12


@every
@pytest.mark.parametrize(
    ("switch", "value", "words"),
    [
        ("fused", True, "here"),
        ("differentiable", True, "in place"),
        ("maximize", None, "True or False"),
        ("foreach", 1, "True, False or None"),
        ("kahan_sum", "yes", "True, False or None"),
    ],
)
def test_what_is_not_there_is_refused(make: Make, switch: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"{switch} = {value!r} must be .*{words}"):
        make(random_params(), **{switch: value})


# Numbers


@every
def test_a_rate_may_be_a_tensor(make: Make) -> None:
    for rate in (torch.tensor(1e-2, dtype=torch.float64), torch.tensor([1e-2], dtype=torch.float64)):
        assert same(end(make, lr=rate), end(make, lr=1e-2))
    assert distance(end(make, lr=rate, capturable=True), end(make, lr=1e-2)) < 1e-12


@every
def test_numpys_numbers_are_pythons_in_files(make: Make) -> None:
    params = random_params()
    optimizer = make(params, lr=np.float32(0.01), weight_decay=np.float64(0.1))
    optimizer.param_groups[0]["lr"] = np.float64(0.02)  # as a user's schedule sets it
    walk(optimizer, params, range(2))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"][0]["lr"] == 0.02


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("parts", [None, ["first_moment", {"name": "second_moment", "eps": 0.0}, "decay"]], ids=str)
def test_no_eps_and_no_gradient_is_no_step(parts: Any, capturable: bool) -> None:
    param = Parameter(torch.ones(2, 3))
    kwargs: Any = {"weight_decay": 0.0, "capturable": capturable}
    optimizer = Chain([param], 0.1, parts, **kwargs) if parts else Ranger21([param], eps=0.0, **kwargs)
    for grad in (torch.zeros(2, 3), torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])):
        param.grad = grad
        optimizer.step()
        assert param.isfinite().all()
    assert (param[1] == 1).all() and param[0, 0] < 1 < param[0, 2]


@every
def test_one_cycle(make: Make) -> None:
    """The rate; of Ranger21 the first beta too, a chain's being an argument of its parts."""
    params = random_params()
    optimizer = make(params)
    scheduler = OneCycleLR(optimizer, max_lr=0.02, total_steps=13, cycle_momentum="betas" in optimizer.defaults)
    rates = []
    for step in STEPS:
        rates.append(optimizer.param_groups[0]["lr"])
        walk(optimizer, params, [step])
        scheduler.step()
    assert max(rates) == pytest.approx(0.02, rel=1e-2) and rates[0] < 0.001


# What comes from elsewhere, and what is switched in mid-run


@every
@pytest.mark.parametrize("theirs", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_a_foreign_state_is_refused_and_changes_nothing(make: Make, theirs: Any) -> None:
    params, twins = random_params(), random_params()
    foreign = theirs(twins, **({"momentum": 0.9} if theirs is torch.optim.SGD else {}), lr=0.1)
    walk(foreign, twins, range(3))
    optimizer, twin = make(params), make(random_params())
    before = copy.deepcopy(optimizer.state_dict())
    needs = {
        name for group in optimizer.param_groups for recipe, _ in optimizer.recipes(group) for name in recipe.keeps
    }
    has = set(next(iter(foreign.state_dict()["state"].values())))
    if needs - {"slow"} <= has:
        optimizer.load_state_dict(foreign.state_dict())  # AdamW's moments are AdamW's
        assert all(p.isfinite().all() for p in walk(optimizer, params, range(3)))
        return
    with pytest.raises(ValueError, match="cannot continue from this state"):
        optimizer.load_state_dict(foreign.state_dict())
    assert optimizer.state_dict() == before
    assert same(walk(optimizer, params, range(3)), walk(twin, twin.param_groups[0]["params"], range(3)))


def test_torchs_adamw_goes_on_as_a_chain() -> None:
    params, twins = random_params(), random_params()
    theirs = torch.optim.AdamW(params, lr=1e-2)
    walk(theirs, params, range(5))
    walk(torch.optim.AdamW(twins, lr=1e-2), twins, range(5))
    ours = Chain(twins, 1.0, CHAINS["adamw"])
    ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    assert distance(walk(theirs, params, range(5, 12)), walk(ours, twins, range(5, 12))) < 1e-12


@every
def test_groups_of_an_older_version_get_the_defaults(make: Make) -> None:
    params, twins = random_params(), random_params()
    optimizer, twin = make(params), make(twins)
    walk(optimizer, params, range(4))
    walk(twin, twins, range(4))
    state = copy.deepcopy(optimizer.state_dict())
    for name in ("maximize", "foreach", "fused", "capturable", "differentiable", "kahan_sum"):
        del state["param_groups"][0][name]
    state["param_groups"][0]["compile"] = False
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0].keys() == twin.param_groups[0].keys()
    assert same(walk(optimizer, params, STEPS), walk(twin, twins, STEPS))


def test_lookahead_that_is_switched_off_and_on_starts_anew() -> None:
    """At the weights of that moment; the slow weights of long ago are forgotten."""
    params, twins = random_params(), random_params()
    optimizer, twin = Ranger21(params), Ranger21(twins, lookahead_k=0)
    walk(optimizer, params, range(7))
    optimizer.param_groups[0]["lookahead_k"] = 0
    walk(optimizer, params, range(7, 16), sparse=False)
    assert not any("slow" in optimizer.state[param] for param in params)
    start = [param.detach().clone() for param in params]
    optimizer.param_groups[0]["lookahead_k"] = 5
    walk(optimizer, params, range(16, 17), sparse=False)
    assert same([optimizer.state[param]["slow"] for param in params], start)
    assert not any("slow" in state for state in twin.state.values())


@pytest.mark.parametrize("pnm", [True, False])
def test_a_moment_cannot_begin_in_mid_run(pnm: bool) -> None:
    params = random_params()
    optimizer = Ranger21(params, pnm=pnm)
    walk(optimizer, params, range(3))
    before = [param.detach().clone() for param in params]
    optimizer.param_groups[0]["pnm"] = not pnm
    with pytest.raises(RuntimeError, match="cannot be switched on in mid-run"):
        walk(optimizer, params, range(3, 4))
    assert same(params, before)


# Hooks


@every_or_around
def test_hooks_are_called_with_the_optimizer(make: Make) -> None:
    params = random_params()
    optimizer, called = make(params), []

    def note(name: str, result: Any = None) -> Callable[..., Any]:
        return lambda one, *rest: called.append((name, one is optimizer))

    optimizer.register_step_pre_hook(note("step pre"))
    optimizer.register_step_post_hook(note("step post"))
    optimizer.register_state_dict_pre_hook(note("state pre"))
    optimizer.register_state_dict_post_hook(note("state post"))
    optimizer.register_load_state_dict_pre_hook(note("load pre"))
    optimizer.register_load_state_dict_post_hook(note("load post"))
    walk(optimizer, params, range(1))
    optimizer.load_state_dict(optimizer.state_dict())
    names = ["step pre", "step post", "state pre", "state post", "load pre", "load post"]
    assert called == [(name, True) for name in names]


# Low precision


def ramps(make: Make, dtype: torch.dtype, of: Sequence[torch.dtype], **kwargs: Any) -> Tensor:
    """Where the steps lead that are far below what half precision can tell apart, with what `kahan_comp` holds."""
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
def test_half_precision_follows_float32(make: Make) -> None:
    """In steps far below what the weights can tell apart: rounded, they would not move at all."""
    halves = (torch.bfloat16, torch.float16)
    wide = ramps(make, torch.float32, halves)
    for dtype in halves:
        kept, rounded = (ramps(make, dtype, halves, kahan_sum=kahan_sum) for kahan_sum in (None, False))
        assert (kept - wide).abs().max() < 0.25 * (wide - 2.0).abs().max()
        assert (rounded - wide).abs().max() > (kept - wide).abs().max()


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_resumes_bit_for_bit(make: Make, dtype: torch.dtype) -> None:
    """The state is float32 still, and the same, though torch casts what it loads to the weights' dtype."""
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


def test_an_older_state_in_half_precision_goes_on_in_float32() -> None:
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


# Groups, and what must be seen whole


def test_parameter_groups_decay_weights_alone() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    model[2].bias.requires_grad_(False)
    decayed, rest = parameter_groups(model, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight), id(model[2].weight)]
    assert [id(p) for p in rest["params"]] == [id(p) for p in (model[0].bias, model[1].weight, model[1].bias)]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    (alone,) = parameter_groups(model.parameters(), 0.1, decay_norm_and_bias=True)
    assert len(alone["params"]) == 5
    assert len(Ranger21(parameter_groups(model, 1e-4)).param_groups) == 2


@pytest.mark.parametrize("mark", ["_is_flat_param", "_fsdp_flattened"])
def test_what_the_first_fsdp_has_flattened_is_refused(mark: str) -> None:
    """By those that need units or tensors; AdamW's elements are what they were."""
    param = Parameter(torch.ones(8))
    setattr(param, mark, True)
    with pytest.raises(ValueError, match=r"must see a unit whole.*fully_shard"):
        Ranger21([param])
    with pytest.raises(ValueError, match=r"must see all parameters whole.*fully_shard"):
        Chain([param], 0.1, ["second_moment", {"name": "decay", "stable": "global"}])
    Chain([param], 0.1, CHAINS["adamw"])


@every_or_around
def test_a_graph_is_not_captured_while_counts_are_on_the_host(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretended capture: none can be had without a GPU."""
    params = random_params()
    optimizer = make(params)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match=r"cannot capture this step.*capturable=True"):
        walk(optimizer, params, range(1))


def test_lookahead_around_a_chain_keeps_its_own_slow_weights() -> None:
    params, twins = random_params(), random_params()
    around = Lookahead(Chain(params, 1e-2, CHAINS["adamw"]), k=5)
    inside = Chain(twins, 1e-2, [*CHAINS["adamw"], "lookahead"])
    assert same(walk(around, params, STEPS), walk(inside, twins, STEPS))


def test_shapes_are_of_every_kind() -> None:
    assert {len(shape) for shape in SHAPES} == {0, 1, 2, 3, 4} and math.prod(SHAPES[2][1:]) == 1
