"""ranger21.optim.reference against an independent NumPy version and the golden trajectory, and Ranger21 against it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.optimizers import SHAPES, largest_error, make_grads, make_params, take_step
from support.reference import Reference

from ranger21 import Ranger21
from ranger21.optim import reference

GOLDEN = Path(__file__).with_name("golden") / "paper-all-on.npz"
LETTERS = {
    "weight_decay": "λ", "pnm_beta": "β0", "eps": "ε", "agc_eps": "ε_clipping", "agc_clipping": "τ",
    "lookahead_k": "k", "lookahead_beta": "β_lookahead",
}  # fmt: skip
CHANGES = [
    {}, {"weight_decay": 50.0}, {"pnm_beta": 0.5}, {"eps": 1e-3}, {"agc_eps": 0.1}, {"agc_clipping": 1e-3},
    {"lookahead_k": 3}, {"lookahead_beta": 0.8}, {"betas": (0.8, 0.99)},
]  # fmt: skip


def letters(kwargs: dict) -> dict:
    """Return Ranger21's arguments under the paper's letters."""
    betas = dict(zip(("β1", "β2"), kwargs.get("betas", ()), strict=False))
    return {LETTERS[name]: value for name, value in kwargs.items() if name != "betas"} | betas


@pytest.mark.parametrize("kwargs", CHANGES, ids=str)
def test_the_reference_equals_the_numpy_version_and_ranger21(kwargs: dict) -> None:
    """The tensors include zeros and all numbers of dimensions, in float64; some steps have zero gradients."""
    params = make_params()
    weights, states = [param.detach().clone() for param in params], [{} for _ in params]
    slow, optimizer = Reference([[x.numpy() for x in weights]], **kwargs), Ranger21(params, **kwargs)
    for t, grads in enumerate(make_grads(23), start=1):
        grads = [grad * (t % 7 != 3) for grad in grads]
        for i, grad in enumerate(grads):
            weights[i] = reference.step(weights[i], torch.tensor(grad), states[i], 3e-3, **letters(kwargs))
        slow.step([grads], 3e-3)
        take_step(optimizer, params, grads)
        assert max(np.abs(a.numpy() - b).max() for a, b in zip(weights, slow.values()[0], strict=True)) < 1e-12
        assert largest_error(params, [x.numpy() for x in weights]) < 1e-12


def test_the_reference_follows_the_golden_trajectory() -> None:
    golden = np.load(GOLDEN)
    kwargs, names = json.loads(str(golden["kwargs"])), golden["order"]
    lr = kwargs.pop("lr")
    weights, states = {name: torch.tensor(golden[f"init.{name}"]) for name in names}, {name: {} for name in names}
    for t, multiplier in enumerate(golden["multiplier"]):
        for name in names:
            grad = torch.tensor(golden[f"grad.{name}"][t])
            weights[name] = reference.step(weights[name], grad, states[name], lr * float(multiplier))
            assert np.abs(weights[name].numpy() - golden[f"param.{name}"][t]).max() < 1e-10


def test_the_test_shapes_have_zero_to_four_dimensions() -> None:
    assert {len(shape) for shape in SHAPES} == {0, 1, 2, 3, 4}
