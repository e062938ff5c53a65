"""Ranger21 equals the slow reference on random problems."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference import Reference
from torch.nn import Parameter

from ranger21 import Ranger21

overrides = st.fixed_dictionaries(
    {},
    optional={
        "betas": st.sampled_from([(0.9, 0.999), (0.0, 0.9), (0.95, 0.0)]),
        "pnm_beta": st.sampled_from([0.0, 0.5, 1.0]),
        "eps": st.sampled_from([1e-8, 1e-4]),
        "weight_decay": st.sampled_from([0.0, 1e-4, 1e-2, 50.0]),
        "agc_clipping": st.sampled_from([None, 1e-3, 0.5]),
        "agc_eps": st.sampled_from([1e-3, 1.0]),
        "centralize": st.booleans(),
        "pnm": st.booleans(),
        "stable_decay": st.sampled_from([None, "layer", "global"]),
        "norm_loss": st.booleans(),
        "lookahead_k": st.integers(0, 3),
        "lookahead_beta": st.sampled_from([0.0, 0.5, 0.9]),
    },
)
shapes = st.lists(st.integers(1, 3), max_size=5).map(tuple)
groups = st.lists(st.tuples(st.lists(shapes, max_size=3), overrides), max_size=3)


def random_gradient(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray | None:
    scale = rng.choice([-1.0, 0.0, 1e-7, 1e-3, 1.0, 100.0])
    return None if scale < 0 else scale * rng.normal(size=shape)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(arguments=overrides, groups=groups, seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 8))
def test_ranger21_equals_the_reference_on_random_problems(arguments: dict, groups: list, seed: int, steps: int) -> None:
    """The problems include missing and zero gradients, zero weights, empty groups, and any shapes and arguments."""
    rng = np.random.default_rng(seed)
    groups = [*groups, ([], {}), ([(3, 2), (1,)], {})]
    values = [[rng.normal(size=s) * rng.choice([0.0, 1e-4, 1.0, 10.0]) for s in shapes] for shapes, _ in groups]
    rates = [float(rng.choice([0.0, 3e-3, 0.1])) for _ in groups]
    params = [[Parameter(torch.tensor(value)) for value in group] for group in values]
    optimizer = Ranger21(
        [{"params": p, "lr": lr, **extra} for p, lr, (_, extra) in zip(params, rates, groups, strict=True)], **arguments
    )
    slow = Reference([{"params": v, **extra} for v, (_, extra) in zip(values, groups, strict=True)], **arguments)
    for _ in range(steps):
        grads = [[random_gradient(rng, np.shape(value)) for value in group] for group in values]
        for group, group_grads in zip(params, grads, strict=True):
            for param, grad in zip(group, group_grads, strict=True):
                param.grad = None if grad is None else torch.tensor(grad)
        optimizer.step()
        slow.step(grads, rates)
        for group, expected in zip(params, slow.values(), strict=True):
            for param, value in zip(group, expected, strict=True):
                np.testing.assert_allclose(param.detach().numpy(), value, rtol=1e-10, atol=1e-10)
