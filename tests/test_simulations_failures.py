"""Simulated experiments with diverging runs and known truth: how often verdicts are wrong, and how often right.

`pytest tests/test_simulations_failures.py --junitxml=FILE` records the rates found.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from support.statistics import Record

from ranger21.report.statistics.pairs import all_pairs, difference
from ranger21.report.statistics.proportions import Proportion, contrasts
from ranger21.report.statistics.ranks import Outcomes

EXPERIMENTS = 1000
CHANCE, MEAN, SPREAD = 10.0, 75.0, 0.3

Array = NDArray[np.float64]


def at_most(share: float) -> float:
    """Return a share plus three binomial standard deviations for EXPERIMENTS experiments."""
    return share + 3 * math.sqrt(share * (1 - share) / EXPERIMENTS)


def drawn(random: np.random.Generator, n: int, rate: float = 0.0, worst: bool = False, first: int = 0) -> Outcomes:
    """Return a group whose runs diverge at this rate: random ones, or the `worst`, below that quantile."""
    values = random.normal(MEAN, SPREAD, n)
    chance = (1 + np.vectorize(math.erf)((values - MEAN) / SPREAD / math.sqrt(2))) / 2 if worst else random.random(n)
    counted = np.where(chance < rate, CHANCE, values)
    seeds = range(first, first + n)
    return Outcomes(
        dict(zip(seeds, map(float, counted), strict=True)), [s for s, c in zip(seeds, chance, strict=True) if c < rate]
    )


def verdict(a: Outcomes | dict[int, float], b: Outcomes | dict[int, float]) -> str:
    found = difference(a, b)
    return found.verdict if found else "cannot tell"


def survivors(group: Outcomes) -> dict[int, float]:
    return {seed: value for seed, value in group.items() if seed not in group.failed}


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("lost", [0.2, 0.4])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_an_optimizer_whose_worst_runs_diverge_is_rarely_called_better(
    n: int, lost: float, paired: bool, record_property: Record
) -> None:
    random = np.random.default_rng(n)
    found, flattered = Counter[str](), Counter[str]()
    for _ in range(EXPERIMENTS):
        a, b = drawn(random, n, lost, worst=True), drawn(random, n, first=0 if paired else 100)
        found[verdict(a, b)] += 1
        flattered[verdict(survivors(a), b)] += 1
    record_property("better", found["better"] / EXPERIMENTS)
    record_property("worse", found["worse"] / EXPERIMENTS)
    record_property("better_if_failures_were_left_out", flattered["better"] / EXPERIMENTS)
    assert found["better"] / EXPERIMENTS <= at_most(0.025)
    assert flattered["better"] / EXPERIMENTS > 0.2 or (n, lost) != (10, 0.4)  # so the fault would be noticed


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (10, 10), (3, 10)])
def test_groups_that_diverge_equally_often_rarely_get_a_verdict(
    n: int, m: int, rate: float, record_property: Record
) -> None:
    random = np.random.default_rng(n)
    found, welch = Counter[str](), Counter[str]()
    for _ in range(EXPERIMENTS):
        a, b = drawn(random, n, rate), drawn(random, m, rate, first=100)
        found[verdict(a, b)] += 1
        welch[verdict(dict(a), dict(b))] += 1
    by_ranks, by_welch = (1 - each["cannot tell"] / EXPERIMENTS for each in (found, welch))
    record_property("any_verdict", by_ranks)
    record_property("any_verdict_by_Welchs_test_of_values_at_chance", by_welch)
    assert by_ranks <= at_most(0.05)
    assert by_welch > 0.1 or (n, m, rate) != (3, 10, 0.3)  # the reason for not using Welch's test


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_five_groups_that_diverge_equally_often_rarely_get_any_verdict(rate: float, record_property: Record) -> None:
    random = np.random.default_rng(5)
    verdicts = often = 0
    for _ in range(experiments := EXPERIMENTS // 2):
        groups = {str(i): drawn(random, 5, rate, first=100 * i) for i in range(5)}
        verdicts += any(pair.difference.verdict != "cannot tell" for pair in all_pairs(groups))
        shares = {label: Proportion(len(group.failed), len(group)) for label, group in groups.items()}
        often += any(contrast.verdict != "cannot tell" for _, _, contrast in contrasts(shares))
    record_property("any_verdict", verdicts / experiments)
    record_property("any_diverges_more_often", often / experiments)
    assert max(verdicts, often) / experiments <= 0.05


@pytest.mark.parametrize("rate", [0.6, 0.8, 1.0])
@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("others", [1, 4])
def test_a_group_that_really_diverges_more_often_is_found(
    n: int, rate: float, others: int, record_property: Record
) -> None:
    """The other groups, one or four, never diverge."""
    random = np.random.default_rng(n)
    verdicts, often, experiments = Counter[str](), Counter[str](), 300 if others == 1 else 80
    for _ in range(experiments):
        groups = {str(i): drawn(random, n, first=100 * i) for i in range(others)}
        groups["lost"] = drawn(random, n, rate, first=1000)
        verdicts.update(pair.difference.verdict for pair in all_pairs(groups) if pair.b == "lost")
        shares = {label: Proportion(len(group.failed), len(group)) for label, group in groups.items()}
        often.update(contrast.verdict for _, b, contrast in contrasts(shares) if b == "lost")
    found = verdicts["better"] / verdicts.total()
    record_property("worse", found)
    record_property("diverges_more_often", often["less often"] / verdicts.total())
    assert verdicts["worse"] / verdicts.total() <= 0.05  # by chance, none of its 3 seeds diverged at a rate of 0.6
    assert found == 1.0 or rate < 1 or (n, others) == (3, 4)  # 3 seeds are too few for 10 pairs
    assert found > 0.75 or rate < 0.8 or n < 10
