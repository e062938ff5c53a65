"""Ingredients from other papers, compared with those papers' formulas and with other libraries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.optimizers import (
    ADAMW,
    SHAPES,
    chain,
    distance,
    largest_distance,
    largest_error,
    random_grads,
    random_params,
    same,
    take_step,
    walk,
)
from timm.optim.adamw import AdamWLegacy
from torch.nn import Parameter

from ranger21.optim.chain import Chain
from ranger21.optim.ingredients import ALL
from ranger21.optim.ingredients.agc import AGC
from ranger21.optim.ingredients.cautious import Cautious
from ranger21.optim.ingredients.orthogonalize import Orthogonalize
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.recipe import Recipe
from ranger21.optim.step import Step

MATRICES = [(4, 3, 3, 3), (5, 6), (6, 5), (8, 8), (4, 1, 1, 1)]
MUON = ["nesterov_moment", "orthogonalize", "decay"]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_cautious_matches_timm(weight_decay: float) -> None:
    """timm decays before the step, but multiplies by the same factor."""
    kwargs = {"lr": 1e-2, "weight_decay": weight_decay}
    ours = chain(["first_moment", "second_moment", "cautious", "decay"], **kwargs)
    assert largest_distance(ours, lambda params: AdamWLegacy(params, **kwargs, caution=True)) < 1e-12


def test_cautious_matches_its_formula() -> None:
    """The mask uses the gradient that the moments used; here that is the centralized gradient."""
    params = random_params([(5, 6)])
    theta, m, optimizer = (
        params[0].detach().numpy().copy(),
        np.zeros((5, 6)),
        chain(["centralize", "first_moment", "cautious"])(params),
    )
    for t, (grad,) in enumerate(random_grads([(5, 6)], 20), start=1):
        g = grad - grad.mean(axis=1, keepdims=True)
        m = 0.9 * m + 0.1 * g
        mask = m * g > 0
        theta -= 1e-2 * (m / (1 - 0.9**t)) * mask / max(mask.sum() / mask.size, 1e-3)
        take_step(optimizer, params, [grad])
        assert largest_error(params, [theta]) < 1e-12


def newton_schulz(matrix: np.ndarray, steps: int = 5) -> np.ndarray:
    """Apply the iteration to the singular values, each of which an odd polynomial changes separately."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / max(np.sqrt((s**2).sum()), 1e-7)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s) @ v


@pytest.mark.parametrize("scale", ["spectral", "rms"])
def test_muon_matches_its_formula(scale: str) -> None:
    params = random_params(MATRICES)
    theta, m = [p.detach().numpy().copy() for p in params], [np.zeros(shape) for shape in MATRICES]
    parts = ["nesterov_moment", {"name": "orthogonalize", "scale": scale}, "decay"]
    optimizer = Chain(params, 1e-2, parts, weight_decay=0.1)
    for grads in random_grads(MATRICES, 20):
        for i, grad in enumerate(grads):
            m[i] = 0.9 * m[i] + 0.1 * grad
            update = (0.9 * m[i] + 0.1 * grad).reshape(len(grad), -1)
            rows, columns = update.shape
            size = {"spectral": max(1, rows / columns) ** 0.5, "rms": 0.2 * max(rows, columns) ** 0.5}[scale]
            theta[i] = (1 - 1e-3) * theta[i] - 1e-2 * size * newton_schulz(update).reshape(grad.shape)
        take_step(optimizer, params, grads)
        assert largest_error(params, theta) < 1e-9


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_matches_torch() -> None:
    """torch computes in bfloat16, so 5 steps of 1e-2 may differ by 3 %."""
    sides = [random_params([(8, 6), (6, 8)]) for _ in range(2)]
    parts = [{"name": "nesterov_moment", "beta1": 0.95}, "orthogonalize", "decay"]
    optimizers = Chain(sides[0], 1e-2, parts, weight_decay=0.1), torch.optim.Muon(sides[1], lr=1e-2, weight_decay=0.1)
    for grads in random_grads([(8, 6), (6, 8)], 5):
        for optimizer, params in zip(optimizers, sides, strict=True):
            take_step(optimizer, params, grads)
    assert distance(*sides) < 0.03 * 5e-2
    assert distance(sides[0], random_params([(8, 6), (6, 8)])) > 1e-2


@pytest.mark.parametrize("before", [["first_moment"], ["pnm"], ["first_moment", "second_moment"], []], ids=str)
def test_the_size_of_an_orthogonal_step_ignores_the_gradients_scale(before: list[str]) -> None:
    """Bias correction and division by the second moment do not change the size either."""
    sizes = []
    for scale in (1.0, 1e4):
        params = random_params([(6, 6)])
        start = params[0].detach().clone()
        take_step(chain([*before, "orthogonalize"], lr=1.0)(params), params, [scale * random_grads([(6, 6)], 1)[0][0]])
        sizes.append(float(torch.linalg.matrix_norm(params[0].detach() - start, 2)))
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-6)
    assert 0.7 < sizes[0] < 1.3


def test_orthogonalizing_brings_singular_values_near_1_and_keeps_the_direction() -> None:
    matrix = torch.tensor(np.random.default_rng(0).normal(size=(9, 30)))
    result = Orthogonalize().orthogonal(matrix)
    assert ((torch.linalg.svdvals(result) - 1).abs() < 0.35).all()
    cosine = (result @ matrix.T).trace() / (result.norm() * matrix.norm())
    assert cosine > 0.9


def test_matrices_and_vectors_can_have_their_own_parts() -> None:
    """The result equals two groups: one of Muon for matrices, one of AdamW for the other parameters."""
    params, twins = random_params(), random_params()
    wide = [i for i, s in enumerate(SHAPES) if len(s) >= 2 and np.prod(s[1:]) > 1]
    rest = [i for i in range(len(SHAPES)) if i not in wide]
    ours = Chain(params, 1e-2, {"matrices": MUON, "vectors": ADAMW}, weight_decay=0.1)
    groups = [{"params": [twins[i] for i in wide], "parts": MUON}, {"params": [twins[i] for i in rest]}]
    theirs = Chain(groups, 1e-2, ADAMW, weight_decay=0.1)
    assert same(walk(ours, params, range(9)), walk(theirs, twins, range(9)))
    assert ours.param_groups[0]["parts"].keys() == {"matrices", "vectors"}


def test_nesterovs_moment_of_a_constant_gradient_is_that_gradient() -> None:
    params = [Parameter(torch.zeros(3, dtype=torch.float64))]
    optimizer = chain(["nesterov_moment"], lr=1.0)(params)
    for t in range(1, 6):
        take_step(optimizer, params, [np.ones(3)])
        assert params[0].detach().tolist() == pytest.approx([-t] * 3, abs=1e-12)


def test_every_ingredient_file_is_listed() -> None:
    from support.project import ROOT

    files = {path.stem for path in (ROOT / "ranger21" / "optim" / "ingredients").glob("*.py")} - {"__init__", "base"}
    assert {one.name for one in ALL} == files


def test_an_ingredient_that_reads_the_gradient_late_must_declare_it() -> None:
    """The gradient's memory is reused after the moments, so an undeclared reader would get wrong values."""

    @dataclass(frozen=True)
    class Undeclared(Cautious):
        uses_gradient = False

    recipe = Recipe((AGC(), PNM(), Undeclared()))
    xs = [torch.ones(3, 2)]
    state = {name: [torch.zeros(3, 2)] for name in recipe.keeps}
    step = Step(recipe, xs, xs, state, 1, 0.1, 0.0, [])
    step.observe()
    with pytest.raises(AttributeError, match="gradient"):
        step.move()
    with pytest.raises(ValueError, match="Unknown ingredient Undeclared"):  # not taken for Cautious
        Chain(random_params(), 1e-2, ["first_moment", Undeclared()])
