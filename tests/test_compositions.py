"""Chains that are optimizers of other libraries, or of a formula: 50 steps of random problems, side by side."""

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
    """RAdam's r_t, where rho_t is above 5."""
    rho_max = 2 / (1 - beta2) - 1
    rho = rho_max - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return None
    return math.sqrt((rho - 4) * (rho - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho))


# Against other implementations


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_torchs(weight_decay: float) -> None:
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    assert largest_distance(chain(ADAMW, **kwargs), lambda params: torch.optim.AdamW(params, **kwargs)) < 1e-12


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_radam_is_torchs(eps: float, weight_decay: float) -> None:
    """Both sides of the step at which rectification sets in, the sixth."""
    applicable = [t for t in range(1, STEPS + 1) if rectification(t) is not None]
    assert applicable == list(range(6, STEPS + 1))
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    parts = ["first_moment", {"name": "second_moment", "eps": eps}, "rectify", "decay"]
    theirs = {**kwargs, "eps": eps, "decoupled_weight_decay": True}
    assert largest_distance(chain(parts, **kwargs), lambda params: torch.optim.RAdam(params, **theirs)) < 1e-12


def test_rectification_never_sets_in_for_a_short_memory() -> None:
    """beta2 = 0.6: rho is 4 at most. The step is the first moment's, as in torch."""
    parts = ["first_moment", {"name": "second_moment", "beta2": 0.6}, "rectify"]
    theirs = {"lr": 1e-2, "betas": (0.9, 0.6)}
    assert largest_distance(chain(parts), lambda params: torch.optim.RAdam(params, **theirs)) < 1e-12
    assert largest_distance(chain(parts), chain(["first_moment"])) == 0


@pytest.mark.parametrize("more", [[], ["rectify"]])
def test_a_sharp_softplus_is_none(more: list[str]) -> None:
    """softplus(x) is x where b x is large, and the rest of the update is as without it."""
    plain, sharp = ({"name": "second_moment", "eps": 0.0, "softplus": softplus} for softplus in (None, 1e9))
    assert largest_distance(chain(["first_moment", plain, *more]), chain(["first_moment", sharp, *more])) < 1e-12


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_with_l2_is_torchs(weight_decay: float) -> None:
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    ours = chain(["l2", "first_moment", "second_moment"], **kwargs)
    assert largest_distance(ours, lambda params: torch.optim.Adam(params, **kwargs)) < 1e-12


def test_a_chain_without_parts_is_sgd() -> None:
    assert largest_distance(chain([], lr=0.1), lambda params: torch.optim.SGD(params, lr=0.1)) < 1e-12
    kwargs = {"lr": 0.1, "weight_decay": 0.1}
    assert largest_distance(chain(["l2"], **kwargs), lambda params: torch.optim.SGD(params, **kwargs)) < 1e-12


def test_ranger_is_pytorch_optimizers() -> None:
    """Where the two mean the same. Theirs, in pytorch_optimizer 4.1, and ours differ in this:

    - Theirs centralizes units of one element too, whose gradient is then zero for ever: no (4, 1, 1, 1) here, and
      the next test shows it.
    - Before rectification sets in, theirs by default (`degenerated_to_sgd=False`) takes the step with a factor of -1,
      which is uphill; `True` gives the step of the first moment alone, RAdam's and ours.
    - Theirs counts steps for a group, ours for a parameter: every parameter has a gradient at every step here.
    - Theirs rectifies from rho = 5 on, ours above 5, which no step has here; theirs writes to `p.grad`.
    - Decay comes before the moments there and after them here, which are independent: in both, the weights are
      multiplied by 1 - lr weight_decay, after the gradient was taken, and the step is then subtracted. Theirs
      does not stop at zero, which is far away here.
    """
    other = pytest.importorskip("pytorch_optimizer", reason="python -m pip install pytorch_optimizer")
    for weight_decay in (0.0, 0.1):
        kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
        theirs = {**kwargs, "degenerated_to_sgd": True, "foreach": False}
        assert (
            largest_distance(chain(RANGER, **kwargs), lambda params, k=theirs: other.Ranger(params, **k), WIDE) < 1e-9
        )


def test_where_ranger_is_not_pytorch_optimizers() -> None:
    """The first two points of the test above, so that it is known when they no longer hold."""
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
def test_lamb_is_timms(weight_decay: float) -> None:
    """Also for a tensor that starts at zero, and at first has a ratio of 1 in both."""
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    theirs = {**kwargs, "max_grad_norm": None, "always_adapt": True}
    assert largest_distance(chain(LAMB, **kwargs), lambda params: Lamb(params, **theirs)) < 1e-9


def test_lars_is_timms() -> None:
    """Without decay, which theirs has in the ratio as a norm of its own, and momentum, which is SGD's there."""
    parts = [{"name": "trust_ratio", "coefficient": 0.1, "eps": 1e-3}]
    theirs = {"lr": 0.5, "trust_coeff": 0.1, "eps": 1e-3, "always_adapt": True}
    assert largest_distance(chain(parts, lr=0.5), lambda params: Lars(params, **theirs)) < 1e-9


# Against formulas


class RangerLars:
    """RAdam's step s = eta u, times a ratio of ||theta|| / ||s||, clamped; decay; lookahead. One tensor, in NumPy.

    u = r_t m_hat sqrt(1 - beta2^t) / (sqrt(v_t) + eps), or m_hat while r_t is not there. Where the weights or the
    step are zero the ratio is 1, before the clamp. The decay stops at zero.
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
def test_rangerlars_and_paratrooper_are_their_formulas(weight_decay: float, clamp: str | None) -> None:
    """At rates for which the first tensor's ratio is below 1, around it and far above, so that all clamps are met.

    Not for a tensor of one element: a step of its own size puts that on zero, or on the rounding error next to it.
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
def test_paratrooper_becomes_ranger(scale: float, steps: int) -> None:
    """Once the ratio is 1 for all tensors, be it because the weights are small or because they are large."""
    shapes, ratio = [(5, 6), (7,)], {"name": "trust_ratio", "of_step": True, "clamp": "paratrooper"}
    sides = [random_params(shapes, scale=scale) for _ in range(2)]
    optimizers = [Chain(params, 0.1, [*RADAM, *more]) for params, more in zip(sides, ([], [ratio]), strict=True)]
    for grads in random_grads(shapes, steps):
        for optimizer, params in zip(optimizers, sides, strict=True):
            take_step(optimizer, params, grads)
    assert distance(*sides) < 1e-12
