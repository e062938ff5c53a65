"""The intervals and tests of the comparison keep their promised rates, in simulated experiments with known truth.

`pytest tests/test_simulations.py --junitxml=FILE` records the rates found.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from support.statistics import Array, Record, compare, ends, seeds

from ranger21.report.statistics.pairs import all_pairs, estimate

EXPERIMENTS = 2000
FEW = (0.0, 0.05 + 3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS))  # 5 %, plus three binomial standard deviations
SPREADS = np.array([0.1, 0.3, 1.0, 3.0, 10.0])[:, None]

Draw = Callable[[np.random.Generator], Array]


@pytest.mark.parametrize(("n", "level"), [(3, 0.95), (5, 0.95), (10, 0.95), (5, 0.8)])
def test_the_interval_of_a_mean_has_its_coverage(n: int, level: float, record_property: Record) -> None:
    rows = np.random.default_rng(n).normal(73.0, 0.3, (EXPERIMENTS, n))
    found = [estimate(row, level) for row in rows]
    covered = sum(e is not None and e.low <= 73.0 <= e.high for e in found) / EXPERIMENTS
    record_property("covered", covered)
    assert covered == pytest.approx(level, abs=3 * math.sqrt(level * (1 - level) / len(rows)))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_of_a_difference_has_its_coverage(paired: bool, n: int, record_property: Record) -> None:
    random = np.random.default_rng(n)
    covered = 0
    for _ in range(EXPERIMENTS):
        a, b = random.normal(1.2, 0.3, n), random.normal(0.0, 0.3, n)
        shared = random.normal(0.0, 2.0, n) if paired else 0.0  # without pairing, the intervals would cover always
        found = compare(seeds(a + shared), seeds(b + shared, first=0 if paired else 100))
        assert found.paired is paired
        covered += bool(ends(found)[0] <= 1.2 <= ends(found)[1])
    record_property("covered", covered / EXPERIMENTS)
    # Welch's interval is somewhat too wide at 3 seeds: 96.1 % with equal spreads.
    assert 0.935 <= covered / EXPERIMENTS <= (0.965 if n > 3 else 0.98)


def rates(draw: Draw, paired: bool) -> tuple[float, float]:
    """Return the share of experiments (5 groups of 5 seeds) with a verdict, and with an uncorrected p < 0.05."""
    random = np.random.default_rng(21)
    verdicts = uncorrected = 0
    for _ in range(EXPERIMENTS):
        values = draw(random) + (random.normal(0.0, 1.0, (1, 5)) if paired else 0.0)
        groups = {str(i): seeds(row, first=0 if paired else 100 * i) for i, row in enumerate(values)}
        found = [pair.difference for pair in all_pairs(groups)]
        assert {d.paired for d in found} == {paired}
        verdicts += any(d.verdict != "cannot tell" for d in found)
        uncorrected += any(d.p is not None and d.p < 0.05 for d in found)
    return verdicts / EXPERIMENTS, uncorrected / EXPERIMENTS


# The limits of these tests, which their docstrings state: skewed values with very unequal spreads.
TOO_MANY = [
    pytest.param(
        lambda random: SPREADS * (random.exponential(size=(5, 5)) - 1), (0.10, 0.20), id="skew, unequal spreads"
    ),
    pytest.param(
        lambda random: SPREADS * (random.lognormal(size=(5, 5)) - math.exp(0.5)),
        (0.15, 0.30),
        id="log-normal, unequal spreads",
    ),
]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("draw", "between"),
    [
        pytest.param(lambda random: random.normal(size=(5, 5)), FEW, id="normal"),
        pytest.param(lambda random: SPREADS * random.normal(size=(5, 5)), FEW, id="unequal spreads"),
        pytest.param(lambda random: random.standard_t(2, size=(5, 5)), FEW, id="heavy tails"),
        pytest.param(lambda random: random.exponential(size=(5, 5)), FEW, id="skew"),
        pytest.param(lambda random: random.lognormal(size=(5, 5)), FEW, id="log-normal"),
        *TOO_MANY,
    ],
)
def test_equal_groups_rarely_get_a_verdict(
    draw: Draw, between: tuple[float, float], paired: bool, record_property: Record
) -> None:
    verdicts, uncorrected = rates(draw, paired)
    record_property("any_verdict", verdicts)
    record_property("any_p_below_5_percent_before_the_correction", uncorrected)
    assert between[0] <= verdicts <= between[1]
    assert uncorrected > 0.12  # so a missing correction would be noticed


@pytest.mark.parametrize("first", [0, 100])
def test_a_large_difference_is_found(first: int) -> None:
    random = np.random.default_rng(5)
    found = []
    for _ in range(200):
        groups = {"good": seeds(random.normal(73.7, 0.2, 5))}
        groups |= {f"plain {i}": seeds(random.normal(71.1, 0.2, 5), first=first * (i + 1)) for i in range(4)}
        found += [pair.difference.verdict for pair in all_pairs(groups) if pair.a == "good"]
    assert found.count("better") > 0.99 * len(found)
    assert "worse" not in found
