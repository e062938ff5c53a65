"""Unusual uses of the optimizers: NumPy numbers everywhere, and states of other models."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.optimizers import OWN_OPTIMIZERS, random_params, same, walk
from torch.nn import Parameter
from torch.optim import Optimizer

from ranger21 import Ranger21
from ranger21.optim.chain import Chain

every = pytest.mark.parametrize("make", OWN_OPTIMIZERS.values(), ids=OWN_OPTIMIZERS)


def reloaded(optimizer: Optimizer) -> Any:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def parts(f: Callable[[float], Any], i: Callable[[int], Any]) -> list[Any]:
    return [
        {"name": "first_moment", "beta1": f(0.5)},
        {"name": "second_moment", "beta2": f(0.75)},
        "decay",
        {"name": "lookahead", "k": i(3), "beta": f(0.5)},
    ]


def test_numpy_numbers_may_be_arguments_of_parts() -> None:
    params, twins = random_params(), random_params()
    optimizer = Chain(params, np.float32(0.5), parts(np.float32, np.int64), weight_decay=np.float64(0.1))
    twin = Chain(twins, 0.5, parts(float, int), weight_decay=0.1)
    assert same(walk(optimizer, params, range(7)), walk(twin, twins, range(7)))
    assert reloaded(optimizer)["param_groups"] == twin.state_dict()["param_groups"]


def test_numpy_numbers_may_be_set_during_training() -> None:
    params, twins = random_params(), random_params()
    optimizer, twin = Ranger21(params), Ranger21(twins, betas=np.array([0.9, 0.999]))
    for name, value in {"lookahead_k": 3, "lookahead_beta": 0.25, "eps": 0.5, "agc_clipping": 0.5}.items():
        optimizer.param_groups[0][name] = np.array(value)[()]  # a NumPy scalar
        twin.param_groups[0][name] = value
        assert same(walk(optimizer, params, range(4)), walk(twin, twins, range(4)))
    twin.load_state_dict(reloaded(optimizer))


@every
@pytest.mark.parametrize("shape", [(6, 5), (1, 6), (6,)], ids=str)
def test_a_state_of_other_shapes_is_refused_without_changes(make: Any, shape: tuple[int, ...]) -> None:
    params, others = random_params(((3,), (5, 6)), seed=1), [Parameter(torch.ones(s).double()) for s in ((3,), shape)]
    optimizer, other = make(params), make(others)
    walk(other, others, range(2), sparse=False)
    if not any(isinstance(x, torch.Tensor) for state in other.state.values() for x in state.values()):
        return  # it keeps no tensor whose shape could differ
    walk(optimizer, params, range(2), sparse=False)
    twin = copy.deepcopy((params, optimizer))
    with pytest.raises(ValueError, match=r"for parameter 1, .* has the shape .*, but the parameter has \(5, 6\)"):
        optimizer.load_state_dict(other.state_dict())
    assert same(walk(optimizer, params, range(2, 5)), walk(twin[1], twin[0], range(2, 5)))
