"""Unusual steps: in CUDA graphs, with NumPy numbers, with tiny gradients, and from states without step counts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.optimizers import OWN_OPTIMIZERS, random_params, same, walk
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from ranger21 import Ranger21
from ranger21.optim.chain import Chain
from ranger21.optim.lookahead import Lookahead

Make = Callable[..., Optimizer]
every = pytest.mark.parametrize("make", OWN_OPTIMIZERS.values(), ids=OWN_OPTIMIZERS)
with_moments = pytest.mark.parametrize(
    "make", [OWN_OPTIMIZERS[name] for name in OWN_OPTIMIZERS if name != "chain, sgd"]
)


@every
def test_state_tensors_keep_their_addresses_for_cuda_graphs(make: Make) -> None:
    """A graph replays a step on the captured addresses; a count in a new tensor would be the same at every replay."""
    params = random_params()
    optimizer = make(params, capturable=True)
    walk(optimizer, params, range(6), sparse=False)
    before = [{name: x.data_ptr() for name, x in optimizer.state[param].items()} for param in params]
    walk(optimizer, params, range(6, 12), sparse=False)
    assert before == [{name: x.data_ptr() for name, x in optimizer.state[param].items()} for param in params]
    assert all(optimizer.state[param]["step"] == 12 for param in params)


@with_moments
@pytest.mark.parametrize("damage", ["one element", "no count"])
def test_a_state_that_does_not_fit_is_refused_without_changes(make: Make, damage: str) -> None:
    params = random_params()
    optimizer = make(params)
    walk(optimizer, params, range(3))
    before, state = optimizer.state_dict(), copy.deepcopy(optimizer.state_dict())
    for one in state["state"].values():
        if damage == "no count":  # as in timm's Lamb, which counts steps per group
            del one["step"]
            continue
        for name in (name for name, x in one.items() if isinstance(x, Tensor) and x.ndim):
            one[name] = one[name].flatten()[:1]
    words = "but not step" if damage == "no count" else "has the shape .*, but the parameter has"
    with pytest.raises(ValueError, match=f"cannot continue from this state: for parameter 0, .*{words}"):
        optimizer.load_state_dict(state)
    assert optimizer.state_dict() == before


@every
@pytest.mark.parametrize("name", ["lr", "weight_decay", "betas"])
def test_numpy_numbers_set_during_training_act_as_python_numbers(make: Make, name: str) -> None:
    """NumPy would compute in single precision, and make the bias corrections of the moments coarse."""
    ends = []
    for number in (np.float32, lambda x: float(np.float32(x))):
        params = random_params()
        optimizer = make(params)
        (group,) = optimizer.param_groups
        walk(optimizer, params, range(2))
        if name in group:
            group[name] = tuple(map(number, (0.85, 0.99))) if name == "betas" else number(0.013)
        ends.append(walk(optimizer, params, range(2, 8)))
    assert same(*ends)


@pytest.mark.parametrize("capturable", [False, True])
def test_eps_0_with_gradients_whose_squares_underflow_is_no_step(capturable: bool) -> None:
    """The first element's second moment underflows to 0, its first moment does not; it must not be divided."""
    param = Parameter(torch.ones(2))
    parts = ["first_moment", {"name": "second_moment", "eps": 0.0}]
    optimizer = Chain([param], 0.1, parts, capturable=capturable)
    for _ in range(3):
        param.grad = torch.tensor([1e-25, 1e-15])
        optimizer.step()
    assert torch.allclose(param, torch.tensor([1.0, 0.7]), atol=1e-5)


@every
def test_gradients_may_have_a_different_dtype(make: Make) -> None:
    ends = []
    for dtype in (torch.float32, torch.bfloat16):
        params = [Parameter(param.detach().float()) for param in random_params()]
        optimizer = make(params)
        for step in range(3):
            rng = np.random.default_rng(step)
            for param in params:
                param.grad_dtype = dtype
                param.grad = torch.as_tensor(rng.normal(size=param.shape)).bfloat16().to(dtype)
            optimizer.step()
        ends.append(params)
    assert same(*ends)


def test_an_error_in_the_second_group_changes_nothing_in_the_first() -> None:
    params = random_params()
    optimizer = Ranger21([{"params": params[:3]}, {"params": params[3:]}])
    walk(optimizer, params, range(3))
    before = [param.detach().clone() for param in params]
    optimizer.param_groups[1]["pnm"] = False
    with pytest.raises(RuntimeError, match="cannot be switched on in mid-run"):
        walk(optimizer, params, range(3, 4))
    assert same(params, before) and all(optimizer.state[param]["step"] == 3 for param in params[:3])


def test_lookahead_refuses_lbfgs() -> None:
    with pytest.raises(ValueError, match="Lookahead cannot wrap LBFGS"):
        Lookahead(torch.optim.LBFGS(random_params()))
