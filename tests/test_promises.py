"""Features of every optimizer of the project, as listed in docs/optimizers.md."""

from __future__ import annotations

import copy
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


def trained(
    make: Make, dtype: torch.dtype = torch.float64, steps: Sequence[int] = STEPS, **kwargs: Any
) -> list[Tensor]:
    params = [Parameter(param.detach().to(dtype)) for param in random_params()]
    return walk(make(params, **kwargs), params, steps)


# torch's switches


@every_or_around
def test_maximize_equals_negated_gradients(make: Make) -> None:
    params = random_params()
    optimizer = make(params, maximize=True)
    for step in STEPS:
        rng = np.random.default_rng(step)
        grads = [torch.as_tensor(rng.normal(size=p.shape) * 10.0 ** (-(step % 4))) for p in params]
        for i, (param, grad) in enumerate(zip(params, grads, strict=True)):
            param.grad = None if i == len(params) - 2 and step % 3 == 0 else -grad
        optimizer.step()
    assert same([param.detach() for param in params], trained(make))


@every_or_around
def test_foreach_does_not_change_the_result(make: Make) -> None:
    assert distance(trained(make, foreach=False), trained(make)) < 1e-12
    assert same(trained(make, foreach=True), trained(make))


@every
def test_capturable_does_not_change_the_result(make: Make) -> None:
    """Every step after the first runs the same operations, so no step depends on step counts read by the host."""
    assert distance(trained(make, capturable=True), trained(make)) < 1e-12
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
def test_capturable_can_be_switched_during_training(make: Make) -> None:
    params = random_params()
    optimizer = make(params)
    for first, capturable in ((0, False), (4, True), (8, False)):
        optimizer.param_groups[0]["capturable"] = capturable
        found = walk(optimizer, params, range(first, first + 4))
    assert distance(found, trained(make)) < 1e-12


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
def test_unsupported_switches_are_refused(make: Make, switch: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"{switch} = {value!r} must be .*{words}"):
        make(random_params(), **{switch: value})


# Numbers


@every
def test_the_learning_rate_may_be_a_tensor(make: Make) -> None:
    for rate in (torch.tensor(1e-2, dtype=torch.float64), torch.tensor([1e-2], dtype=torch.float64)):
        assert same(trained(make, lr=rate), trained(make, lr=1e-2))
    assert distance(trained(make, lr=rate, capturable=True), trained(make, lr=1e-2)) < 1e-12


@every
def test_numpy_numbers_are_saved_as_python_numbers(make: Make) -> None:
    params = random_params()
    optimizer = make(params, lr=np.float32(0.01), weight_decay=np.float64(0.1))
    optimizer.param_groups[0]["lr"] = np.float64(0.02)  # as a user's schedule may set it
    walk(optimizer, params, range(2))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"][0]["lr"] == 0.02


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("parts", [None, ["first_moment", {"name": "second_moment", "eps": 0.0}, "decay"]], ids=str)
def test_zero_gradients_with_eps_0_change_nothing(parts: Any, capturable: bool) -> None:
    param = Parameter(torch.ones(2, 3))
    kwargs: Any = {"weight_decay": 0.0, "capturable": capturable}
    optimizer = Chain([param], 0.1, parts, **kwargs) if parts else Ranger21([param], eps=0.0, **kwargs)
    for grad in (torch.zeros(2, 3), torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])):
        param.grad = grad
        optimizer.step()
        assert param.isfinite().all()
    assert (param[1] == 1).all() and param[0, 0] < 1 < param[0, 2]


@every
def test_one_cycle_lr_can_be_used(make: Make) -> None:
    """The scheduler cycles the learning rate, and Ranger21's first beta; a chain's betas belong to its parts."""
    params = random_params()
    optimizer = make(params)
    scheduler = OneCycleLR(optimizer, max_lr=0.02, total_steps=13, cycle_momentum="betas" in optimizer.defaults)
    rates = []
    for step in STEPS:
        rates.append(optimizer.param_groups[0]["lr"])
        walk(optimizer, params, [step])
        scheduler.step()
    assert max(rates) == pytest.approx(0.02, rel=1e-2) and rates[0] < 0.001


# Foreign states, and switches during training


@every
@pytest.mark.parametrize("foreign_class", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
def test_the_state_of_a_different_optimizer_is_refused_without_changes(make: Make, foreign_class: Any) -> None:
    params, twins = random_params(), random_params()
    foreign = foreign_class(twins, **({"momentum": 0.9} if foreign_class is torch.optim.SGD else {}), lr=0.1)
    walk(foreign, twins, range(3))
    optimizer, twin = make(params), make(random_params())
    before = copy.deepcopy(optimizer.state_dict())
    needs = {
        name for group in optimizer.param_groups for recipe, _ in optimizer.recipes(group) for name in recipe.keeps
    }
    has = set(next(iter(foreign.state_dict()["state"].values())))
    if needs - {"slow"} <= has:
        optimizer.load_state_dict(foreign.state_dict())  # AdamW's moments can be used by AdamW
        assert all(p.isfinite().all() for p in walk(optimizer, params, range(3)))
        return
    with pytest.raises(ValueError, match="cannot continue from this state"):
        optimizer.load_state_dict(foreign.state_dict())
    assert optimizer.state_dict() == before
    assert same(walk(optimizer, params, range(3)), walk(twin, twin.param_groups[0]["params"], range(3)))


def test_a_chain_can_continue_from_torchs_adamw() -> None:
    params, twins = random_params(), random_params()
    adamw = torch.optim.AdamW(params, lr=1e-2)
    walk(adamw, params, range(5))
    walk(torch.optim.AdamW(twins, lr=1e-2), twins, range(5))
    chain = Chain(twins, 1.0, CHAINS["adamw"])
    chain.load_state_dict(copy.deepcopy(adamw.state_dict()))
    assert distance(walk(adamw, params, range(5, 12)), walk(chain, twins, range(5, 12))) < 1e-12


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


def test_lookahead_switched_off_and_on_starts_from_current_weights() -> None:
    """The earlier slow weights are discarded."""
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
def test_pnm_cannot_be_switched_during_training(pnm: bool) -> None:
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


# Groups, and parameters that must not be flattened


def test_parameter_groups_decay_only_weights() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    model[2].bias.requires_grad_(False)
    decayed, rest = parameter_groups(model, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight), id(model[2].weight)]
    assert [id(p) for p in rest["params"]] == [id(p) for p in (model[0].bias, model[1].weight, model[1].bias)]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    named = parameter_groups(model.named_parameters(), 0.1)
    assert [list(map(id, group["params"])) for group in named] == [
        list(map(id, group["params"])) for group in (decayed, rest)
    ]
    (alone,) = parameter_groups(model.parameters(), 0.1, decay_norm_and_bias=True)
    assert len(alone["params"]) == 5
    assert len(Ranger21(parameter_groups(model, 1e-4)).param_groups) == 2


@pytest.mark.parametrize("mark", ["_is_flat_param", "_fsdp_flattened"])
def test_parameters_flattened_by_fsdp1_are_refused(mark: str) -> None:
    """Ingredients that need whole units or tensors refuse them; AdamW works per element and accepts them."""
    param = Parameter(torch.ones(8))
    setattr(param, mark, True)
    with pytest.raises(ValueError, match=r"must see a unit whole.*fully_shard"):
        Ranger21([param])
    with pytest.raises(ValueError, match=r"must see all parameters whole.*fully_shard"):
        Chain([param], 0.1, ["second_moment", {"name": "decay", "stable": "global"}])
    Chain([param], 0.1, CHAINS["adamw"])


@every_or_around
def test_graph_capture_without_capturable_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The capture is simulated, because a real one needs a GPU."""
    params = random_params()
    optimizer = make(params)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match=r"cannot capture this step.*capturable=True"):
        walk(optimizer, params, range(1))


def test_lookahead_around_a_chain_equals_lookahead_inside_it() -> None:
    params, twins = random_params(), random_params()
    around = Lookahead(Chain(params, 1e-2, CHAINS["adamw"]), k=5)
    inside = Chain(twins, 1e-2, [*CHAINS["adamw"], "lookahead"])
    assert same(walk(around, params, STEPS), walk(inside, twins, STEPS))


def test_the_test_shapes_have_zero_to_four_dimensions() -> None:
    assert {len(shape) for shape in SHAPES} == {0, 1, 2, 3, 4} and math.prod(SHAPES[2][1:]) == 1
