"""Chains compared with other libraries' optimizers, and with formulas, over 50 steps of random problems."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.optimizers import (
    ADAMW,
    LAMB,
    RANGER,
    SHAPES,
    chain,
    distance,
    largest_distance,
    largest_error,
    random_grads,
    random_params,
    take_step,
)
from timm.optim import Lamb, Lars
from torch.nn import Parameter

from ranger21.optim.chain import Chain

BETAS, STEPS = (0.9, 0.999), 50
WIDE = [shape for shape in SHAPES if shape != (4, 1, 1, 1)]
RADAM = ["first_moment", "second_moment", "rectify"]
CLAMPS = {
    None: {"larger", "smaller"},
    "ten": {"ten", "ratio"},
    "paratrooper": {"below one", "ratio", "bounded", "one"},
}


def rectification(t: int, beta2: float = 0.999) -> float | None:
    """Return RAdam's r_t, or None where rho_t is at most 5."""
    rho_max = 2 / (1 - beta2) - 1
    rho = rho_max - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return None
    return math.sqrt((rho - 4) * (rho - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho))


# Against other implementations


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_matches_torch(weight_decay: float) -> None:
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    assert largest_distance(chain(ADAMW, **kwargs), lambda params: torch.optim.AdamW(params, **kwargs)) < 1e-12


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_radam_matches_torch(eps: float, weight_decay: float) -> None:
    """Rectification begins at the sixth step, so both cases occur."""
    applicable = [t for t in range(1, STEPS + 1) if rectification(t) is not None]
    assert applicable == list(range(6, STEPS + 1))
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    parts = ["first_moment", {"name": "second_moment", "eps": eps}, "rectify", "decay"]
    theirs = {**kwargs, "eps": eps, "decoupled_weight_decay": True}
    assert largest_distance(chain(parts, **kwargs), lambda params: torch.optim.RAdam(params, **theirs)) < 1e-12


def test_rectification_never_begins_if_beta2_is_small() -> None:
    """For beta2 = 0.6 rho is at most 4, and the step is that of the first moment, as in torch."""
    parts = ["first_moment", {"name": "second_moment", "beta2": 0.6}, "rectify"]
    theirs = {"lr": 1e-2, "betas": (0.9, 0.6)}
    assert largest_distance(chain(parts), lambda params: torch.optim.RAdam(params, **theirs)) < 1e-12
    assert largest_distance(chain(parts), chain(["first_moment"])) == 0


@pytest.mark.parametrize("more", [[], ["rectify"]])
def test_a_sharp_softplus_has_no_effect(more: list[str]) -> None:
    """softplus(x) is nearly x where b x is large; the rest of the update does not change."""
    plain, sharp = ({"name": "second_moment", "eps": 0.0, "softplus": softplus} for softplus in (None, 1e9))
    assert largest_distance(chain(["first_moment", plain, *more]), chain(["first_moment", sharp, *more])) < 1e-12


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_with_l2_matches_torch(weight_decay: float) -> None:
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    ours = chain(["l2", "first_moment", "second_moment"], **kwargs)
    assert largest_distance(ours, lambda params: torch.optim.Adam(params, **kwargs)) < 1e-12


def test_a_chain_without_parts_is_sgd() -> None:
    assert largest_distance(chain([], lr=0.1), lambda params: torch.optim.SGD(params, lr=0.1)) < 1e-12
    kwargs = {"lr": 0.1, "weight_decay": 0.1}
    assert largest_distance(chain(["l2"], **kwargs), lambda params: torch.optim.SGD(params, **kwargs)) < 1e-12


def test_ranger_matches_pytorch_optimizer_where_the_definitions_agree() -> None:
    """Compare with pytorch_optimizer 4.1 where both implementations mean the same. They differ in these points:

    - Theirs also centralizes units of one element, whose gradient is then always zero. So (4, 1, 1, 1) is left out
      here; the next test shows the difference.
    - Before rectification begins, their default (`degenerated_to_sgd=False`) takes the step with a factor of -1, which
      is uphill. With `True` the step is that of the first moment alone, as in RAdam and ours.
    - Theirs counts steps per group, ours per parameter. Here every parameter has a gradient at every step.
    - Theirs rectifies from rho = 5 on, ours above 5; no step has exactly 5 here. Theirs also writes to `p.grad`.
    - Theirs decays before the moments, ours after them. The order does not matter: both take the gradient, multiply the
      weights by 1 - lr weight_decay, and subtract the step. Theirs does not stop at zero, which is far away here.
    """
    other = pytest.importorskip("pytorch_optimizer", reason="python -m pip install pytorch_optimizer")
    for weight_decay in (0.0, 0.1):
        kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
        theirs = {**kwargs, "degenerated_to_sgd": True, "foreach": False}
        assert (
            largest_distance(chain(RANGER, **kwargs), lambda params, k=theirs: other.Ranger(params, **k), WIDE) < 1e-9
        )


def test_ranger_differs_from_pytorch_optimizer_in_two_known_ways() -> None:
    """Check the first two points of the list above, so that the test fails if pytorch_optimizer changes them."""
    other = pytest.importorskip("pytorch_optimizer", reason="python -m pip install pytorch_optimizer")
    ours, theirs = (Parameter(torch.ones(4, 1, 1, 1, dtype=torch.float64)) for _ in range(2))
    take_step(chain(RANGER)([ours]), [ours], [np.ones((4, 1, 1, 1))])
    take_step(other.Ranger([theirs], lr=1e-2, degenerated_to_sgd=True), [theirs], [np.ones((4, 1, 1, 1))])
    assert (ours < 1).all()
    assert (theirs == 1).all()
    for sgd, step in ((True, -1e-2), (False, 1e-2)):
        vector = Parameter(torch.ones(3, dtype=torch.float64))
        take_step(other.Ranger([vector], lr=1e-2, degenerated_to_sgd=sgd), [vector], [np.ones(3)])
        assert (vector.detach() - 1).tolist() == pytest.approx([step] * 3)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lamb_matches_timm(weight_decay: float) -> None:
    """One tensor starts at zero, and its trust ratio is 1 at first in both."""
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    theirs = {**kwargs, "max_grad_norm": None, "always_adapt": True}
    assert largest_distance(chain(LAMB, **kwargs), lambda params: Lamb(params, **theirs)) < 1e-9


def test_lars_matches_timm() -> None:
    """Weight decay and momentum are off, because timm uses different formulas for them."""
    parts = [{"name": "trust_ratio", "coefficient": 0.1, "eps": 1e-3}]
    theirs = {"lr": 0.5, "trust_coeff": 0.1, "eps": 1e-3, "always_adapt": True}
    assert largest_distance(chain(parts, lr=0.5), lambda params: Lars(params, **theirs)) < 1e-9


# Against formulas


class RangerLars:
    """RAdam's step s = eta u, times the clamped ratio ||theta|| / ||s||; decay; lookahead. One tensor, in NumPy.

    u = r_t m_hat sqrt(1 - beta2^t) / (sqrt(v_t) + eps), or m_hat while rho_t is at most 5. The ratio is 1, before the
    clamp, where the weights or the step are zero. The decay stops at zero.
    """

    def __init__(self, theta: np.ndarray, clamp: str | None, weight_decay: float) -> None:
        self.theta, self.slow, self.clamp, self.weight_decay = theta.copy(), theta.copy(), clamp, weight_decay
        self.m, self.v, self.u, self.t = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta), 0
        self.seen: list[str] = []

    def observe(self, g: np.ndarray) -> None:
        (beta1, beta2), self.t = BETAS, self.t + 1
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g * g
        r = rectification(self.t)
        self.u = self.m / (1 - beta1**self.t)
        if r is not None:
            self.u = self.u * r * math.sqrt(1 - beta2**self.t) / (np.sqrt(self.v) + 1e-8)

    def move(self, eta: float) -> None:
        s = eta * self.u
        weight, size = math.sqrt(np.sum(self.theta**2)), math.sqrt(np.sum(s**2))
        ratio = self.clamped(weight / size if weight > 0 and size > 0 else 1.0, *BETAS)
        self.theta = max(0.0, 1 - eta * self.weight_decay) * self.theta - ratio * s
        if self.t % 5 == 0:
            self.slow = 0.5 * self.slow + 0.5 * self.theta
            self.theta = self.slow.copy()

    def clamped(self, ratio: float, beta1: float, beta2: float) -> float:
        if self.clamp is None:
            self.seen.append("larger" if ratio > 1 else "smaller")
            return ratio
        if self.clamp == "ten":
            self.seen.append("ten" if ratio > 10 else "ratio")
            return max(0, min(ratio, 10))
        b = math.sqrt(1 - beta2**self.t) / (1 - beta1**self.t)
        bounded = min(1 / (ratio * b), ratio)
        free = "ratio" if bounded == ratio else "bounded"
        self.seen.append(free if bounded > 1 else "below one" if ratio < 1 else "one")
        return max(1, bounded)


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.03])
def test_rangerlars_and_paratrooper_match_their_formulas(weight_decay: float, clamp: str | None) -> None:
    """The learning rates put the first tensor's ratio below 1, near 1 and far above 1, so that every clamp applies.

    A tensor of one element is left out: a step of its own size moves it to zero, up to a rounding error.
    """
    shapes = [shape for shape in SHAPES if shape != ()]
    params = random_params(shapes)
    slow = [RangerLars(param.detach().numpy(), clamp, weight_decay) for param in params]
    parts = [*RADAM, {"name": "trust_ratio", "of_step": True, "clamp": clamp}, "decay", "lookahead"]
    optimizer = Chain(params, 0.0, parts, weight_decay=weight_decay)
    for t, grads in enumerate(random_grads(shapes, STEPS)):
        for one, grad in zip(slow, grads, strict=True):
            one.observe(grad)
        eta = float(np.linalg.norm(slow[0].theta) / np.linalg.norm(slow[0].u)) / (20, 0.5, 1.2, 4)[t % 4]
        optimizer.param_groups[0]["lr"] = eta
        take_step(optimizer, params, grads)
        for one, param in zip(slow, params, strict=True):
            one.move(eta)
            assert largest_error([param], [one.theta]) < 1e-10 * max(1.0, np.abs(one.theta).max())
    for moment in (slice(5), slice(5, None)):
        assert {branch for one in slow for branch in one.seen[moment]} == CLAMPS[clamp]


@pytest.mark.parametrize(("scale", "steps"), [(1e-3, 1), (1e3, 10)])
def test_paratrooper_equals_ranger_if_all_ratios_are_1(scale: float, steps: int) -> None:
    """The ratio is 1 for all tensors if their weights are very small, or very large."""
    shapes, ratio = [(5, 6), (7,)], {"name": "trust_ratio", "of_step": True, "clamp": "paratrooper"}
    sides = [random_params(shapes, scale=scale) for _ in range(2)]
    optimizers = [Chain(params, 0.1, [*RADAM, *more]) for params, more in zip(sides, ([], [ratio]), strict=True)]
    for grads in random_grads(shapes, steps):
        for optimizer, params in zip(optimizers, sides, strict=True):
            take_step(optimizer, params, grads)
    assert distance(*sides) < 1e-12
