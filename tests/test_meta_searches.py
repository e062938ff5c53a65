"""The searches of scripts/compose.py: the regression, the proposals, and the simulated task."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from support.project import ROOT

from ranger21.meta import regression
from ranger21.meta.effects import main_effects, pair_effects
from ranger21.meta.features import Features, Term
from ranger21.meta.propose import SEARCHES, Observation, best_arm, posterior_of
from ranger21.meta.simulated import on, simulate, simulated
from ranger21.meta.space import NONE, Arm, Option, Space
from ranger21.report.runs.finding import find_runs
from ranger21.system.errors import UserError

NAMES = "abcdef"
RATES = tuple(Option(str(value), str(value), (), float(value)) for value in (-2, -1, 0, 1))
SLOTS = {name: (Option(NONE, NONE), Option(name, name)) for name in NAMES} | {"rate": RATES}
SPACE = Space(SLOTS, lambda arm: arm["a"] == NONE or arm["b"] == NONE, {})  # a and b clash
ARMS: list[Arm] = [
    dict(zip(SLOTS, labels, strict=True))
    for labels in itertools.product(*([option.label for option in options] for options in SLOTS.values()))
    if labels[0] == NONE or labels[1] == NONE
]


def truth(arm: Arm) -> float:
    """Return the response: c and d help only together, e hurts, and the best rate is -1 with f and 0 without."""
    has = {name for name in NAMES if arm[name] != NONE}
    best_rate = -1 if "f" in has else 0
    both, hurt = 1.0 * ({"c", "d"} <= has), -0.5 * ("e" in has)
    return 0.3 * ("a" in has) + both + hurt - 0.3 * (float(arm["rate"]) - best_rate) ** 2


def observed(count: int, seed: int = 0, noise: float = 0.05) -> list[Observation]:
    rng = np.random.default_rng(seed)
    chosen = [ARMS[index] for index in rng.permutation(len(ARMS))[:count]]
    return [Observation(arm, 0, truth(arm) + noise * rng.standard_normal()) for arm in chosen]


def test_the_posterior_is_that_of_the_textbook() -> None:
    """Against the normal equations (Bishop 2006, equations 3.53 and 3.54) and scipy's multivariate t distribution."""
    rng = np.random.default_rng(1)
    x, y, v0 = rng.standard_normal((9, 5)), rng.standard_normal(9), np.array([100.0, 4, 4, 1, 1])
    found = regression._fit(x, y, v0)
    covariance = np.linalg.inv(np.diag(1 / v0) + x.T @ x)
    mean = covariance @ x.T @ y
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(found.root @ found.root.T, covariance, atol=1e-9)
    a, b = regression.A0 + 9 / 2, regression.B0 + (y @ y - mean @ (x.T @ y)) / 2
    assert (found.a, found.b) == pytest.approx((a, b))
    scale = regression.B0 / regression.A0 * (np.eye(9) + (x * v0) @ x.T)
    assert found.evidence == pytest.approx(stats.multivariate_t(np.zeros(9), scale, 2 * regression.A0).logpdf(y))
    draws = np.stack([found.sample(rng) for _ in range(4000)])
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.1)
    center, low, high = found.interval(np.eye(5)[3])
    inside = ((draws[:, 3] > low) & (draws[:, 3] < high)).mean()
    assert center == pytest.approx(mean[3]) and inside == pytest.approx(0.95, abs=0.015)


def test_the_prior_mean_of_squares_is_negative() -> None:
    """Against the normal equations with a prior mean (Bishop 2006, equation 3.50)."""
    terms = [Term(0, 0, ()), Term(0, 1, ("rate",)), Term(1, 1, ("rate", "rate"))]
    rate, rng = np.linspace(-1, 1, 7), np.random.default_rng(3)
    x, y = np.stack([rate**0, rate, rate**2], axis=1), 2 + rng.standard_normal(7)
    m0 = np.array([0, 0, -regression.CURVED * y.std()])
    priors = [regression._prior(terms, scale) for scale in regression.SCALES]
    means = [np.linalg.solve(np.diag(1 / v0) + x.T @ x, m0 / v0 + x.T @ y) for v0 in priors]
    found = regression.fit(x, y, terms).mean
    assert any(np.allclose(found, mean, atol=1e-9) for mean in means)


def test_few_arms_are_proposed_at_the_ends_of_a_range() -> None:
    rates = tuple(Option(str(value), str(value), (), float(value)) for value in range(13))
    space = Space({**{slot: SLOTS[slot] for slot in NAMES}, "rate": rates}, SPACE.is_valid, {})
    proposed = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        arms = [space.random(rng) for _ in range(15)]
        results = [rng.standard_normal() - 0.1 * (float(arm["rate"]) - 6) ** 2 for arm in arms]
        history = [Observation(arm, 0, result) for arm, result in zip(arms, results, strict=True)]
        proposed += SEARCHES["thompson"](space, 1, history, 8, seed)
    at_an_end = sum(arm["rate"] in ("0", "12") for arm in proposed)
    assert at_an_end <= len(proposed) / 8, [arm["rate"] for arm in proposed]


def test_a_draw_does_not_depend_on_rounding() -> None:
    """Results in another order are rounded otherwise, as they are on another processor: the draws are the same."""
    features, history = Features(SPACE, 1), observed(16)
    one, other = (posterior_of(features, some).sample(np.random.default_rng(0)) for some in (history, history[::-1]))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_features_are_the_ingredients_their_pairs_and_the_numbers() -> None:
    features = Features(SPACE, 2)
    names = {term.name for term in features.terms}
    assert {
        (),
        ("a",),
        ("c", "d"),
        ("c", "rate"),
        ("rate",),
        ("rate", "rate"),
        ("rung 1",),
        ("rung 1", "rate"),
    } <= names
    arm = {**dict.fromkeys(NAMES, NONE), "c": "c", "d": "d", "rate": "-2"}
    values = {term.name: value for term, value in zip(features.terms, features.encode(arm, 0), strict=True)}
    on_now = {name: value for name, value in values.items() if value}
    assert on_now == {
        (): 1, ("c",): 1, ("d",): 1, ("c", "d"): 1, ("rate",): -1, ("rate", "rate"): 1, ("c", "rate"): -1,
        ("d", "rate"): -1, ("rung 1",): 1, ("rung 1", "rate"): -1,
    }  # fmt: skip
    last = dict(zip((term.name for term in features.terms), features.encode(arm), strict=True))
    assert last["rung 1",] == last["rung 1", "rate"] == 0


def test_a_report_does_not_change_with_ingredients_that_are_added_later() -> None:
    later = Space({"new": (Option(NONE, NONE), Option("new", "new")), **SLOTS}, SPACE.is_valid, {})
    old = later.restricted(SPACE.content())
    assert Features(old, 2).terms == Features(SPACE, 2).terms
    assert [old.is_valid(arm) for arm in ({"a": "a", "b": NONE}, {"a": "a", "b": "b"})] == [True, False]
    with pytest.raises(KeyError):
        SPACE.restricted(later.content())


def test_the_regression_finds_what_helps_and_with_what() -> None:
    features = Features(SPACE, 1)
    posterior = posterior_of(features, observed(120))
    mains = {one.names[0]: one for one in main_effects(features, posterior, 0.5)}
    pairs = {frozenset(one.names): one for one in pair_effects(features, posterior, 0.5)}
    assert mains["e"].high < 0 < mains["c"].low and mains["a"].low > 0
    expected = [100 / (1 + np.exp(-logit)) - 50 for logit in (-0.5, 1.0)]  # from 50 %, whose logit is 0
    assert [mains["e"].mean, pairs[frozenset("cd")].mean] == pytest.approx(expected, abs=1)
    assert max(pairs.values(), key=lambda one: one.mean).names == ("c", "d")


@pytest.mark.parametrize("seed", range(5))
def test_the_maximization_finds_the_best_arm(seed: int) -> None:
    """Against all arms, under a draw of the coefficients; and never a known arm."""
    features, rng = Features(SPACE, 1), np.random.default_rng(seed)
    theta = rng.standard_normal(len(features.terms))
    ranked = sorted(ARMS, key=lambda arm: -float(features.encode(arm) @ theta))
    assert best_arm(features, theta, set(), rng) == ranked[0]
    known = {SPACE.key(arm) for arm in ranked[:3]}
    assert SPACE.key(best_arm(features, theta, known, rng)) not in known


@pytest.mark.parametrize("name", SEARCHES)
def test_proposals_are_new_valid_and_depend_only_on_the_results(name: str) -> None:
    history = observed(16)
    first, again, other = (SEARCHES[name](SPACE, 1, history, 8, seed) for seed in (0, 0, 1))
    assert first == again != other
    keys = [SPACE.key(arm) for arm in first]
    assert len(set(keys)) == 8 and not set(keys) & {SPACE.key(one.arm) for one in history}
    assert all(map(SPACE.is_valid, first))
    with pytest.raises(UserError, match="no 8 arms left that this search has not run"):
        SEARCHES[name](SPACE, 1, observed(len(ARMS) - 7), 8, 0)


def test_thompson_finds_the_best_of_an_easy_task_and_random_does_not() -> None:
    def best(name: str, seed: int) -> float:
        history: list[Observation] = []
        rng = np.random.default_rng(seed)
        for bracket in range(5):
            arms = SEARCHES[name](SPACE, 1, history, 8, 100 * seed + bracket)
            history += [Observation(arm, 0, truth(arm) + 0.05 * rng.standard_normal()) for arm in arms]
        return max(truth(one.arm) for one in history)

    top = max(map(truth, ARMS))
    regrets = {name: np.array([top - best(name, seed) for seed in range(8)]) for name in ("thompson", "random")}
    assert (regrets["thompson"] < 1e-9).mean() >= 0.75
    assert regrets["thompson"].mean() < 0.25 * regrets["random"].mean()


def test_the_simulated_task_is_the_committed_ablation() -> None:
    task = simulated(find_runs([str(ROOT / "results" / "fashion_mnist")]).runs)
    assert len(task.means) == 20 and 0.3 < task.noise < 0.8
    best = max(task.means, key=lambda key: task.means[key])
    found = simulate(task, "thompson", 4, 4, seed=0)
    assert len(found) == 4 and all(on(arm) in task.means for arm in found)
    assert task.regret({name: name if name in best else NONE for name in task.space.slots}) == 0
