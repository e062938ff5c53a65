"""The computed power agrees with that of simulated experiments.

`pytest tests/test_simulations_power.py --junitxml=FILE` records the rates found.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.statistics import Record, compare, seeds

from ranger21.report.statistics.pairs import all_pairs
from ranger21.report.statistics.power import POWER, Spread, gap_found

EXPERIMENTS = 1000
CLOSE = 3 * math.sqrt(POWER * (1 - POWER) / EXPERIMENTS)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("ratio", [1.0, 4.0])  # of the two groups' spreads
def test_the_gap_is_found_with_the_computed_power(n: int, paired: bool, ratio: float, record_property: Record) -> None:
    random, sd = np.random.default_rng(n), (0.2, 0.2 * ratio)
    spread = Spread((math.hypot(*sd),)) if paired else Spread(sd)
    gap = gap_found(spread, (n, n))
    found = 0
    for _ in range(EXPERIMENTS):
        shared = random.normal(0.0, 1.0, n) if paired else 0.0
        a, b = random.normal(gap, sd[0], n) + shared, random.normal(0.0, sd[1], n) + shared
        found += compare(seeds(a), seeds(b, first=0 if paired else 100)).verdict == "better"
    record_property("found", found / EXPERIMENTS)
    assert found / EXPERIMENTS == pytest.approx(POWER, abs=CLOSE)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_holm_finds_the_gap_at_least_as_often_among_many_pairs(n: int, record_property: Record) -> None:
    random, sd = np.random.default_rng(n), 0.2
    gap, found = gap_found(Spread((sd * math.sqrt(2),)), (n, n), tests=6), 0
    for _ in range(EXPERIMENTS):
        shared = random.normal(0.0, 1.0, n)
        groups = {str(i): seeds(random.normal(gap * (i == 0), sd, n) + shared) for i in range(4)}
        (first,) = [pair.difference for pair in all_pairs(groups) if (pair.a, pair.b) == ("0", "1")]
        found += first.verdict == "better"
    record_property("found", found / EXPERIMENTS)
    assert found / EXPERIMENTS >= POWER - CLOSE


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_of_a_spread_has_its_coverage(n: int, record_property: Record) -> None:
    random = np.random.default_rng(n)
    spreads = [Spread((float(np.std(row, ddof=1)),), n - 1) for row in random.normal(0, 1, (EXPERIMENTS, n))]
    covered = sum(low.sd <= 1.0 <= high.sd for low, high in (spread.ends() for spread in spreads)) / EXPERIMENTS
    record_property("covered", covered)
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS))
