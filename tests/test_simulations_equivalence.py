"""Equivalence in simulated experiments: how often it is claimed when it is false, and when it is true.

`pytest tests/test_simulations_equivalence.py --junitxml=FILE` records the rates found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from support.statistics import Array, Record, compare, seeds

from ranger21.report.statistics.pairs import Pair, all_pairs

EXPERIMENTS = 1000
FEW = 0.05 + 3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)  # 5 %, plus three binomial standard deviations
MARGIN = 0.5

Draw = Callable[[np.random.Generator, int], Array]


def families(
    means: Sequence[float], sd: float, n: int, paired: bool, experiments: int = EXPERIMENTS
) -> list[list[Pair]]:
    """Return simulated comparisons of groups with these means and `n` seeds each."""
    random, found = np.random.default_rng(n), []
    for _ in range(experiments):
        shared = random.normal(0.0, 1.0, n) if paired else np.zeros(n)
        groups = {
            str(i): seeds(random.normal(mean, sd, n) + shared, first=0 if paired else 100 * i)
            for i, mean in enumerate(means)
        }
        found.append(all_pairs(groups, margin=MARGIN))
    return found


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_groups_the_margin_apart_are_rarely_called_equivalent(n: int, paired: bool, record_property: Record) -> None:
    pairs = [found.equivalence for ((_, _, found),) in families((MARGIN, 0.0), 0.1, n, paired, 3 * EXPERIMENTS)]
    false = sum(found is not None and found.within for found in pairs) / len(pairs)
    record_property("false_equivalent", false)
    assert 0.02 <= false <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(pairs))


@pytest.mark.parametrize(
    ("draw", "ratio", "between"),
    [
        pytest.param(lambda random, n: random.normal(size=n), 10.0, (0.0, FEW), id="unequal spreads"),
        pytest.param(lambda random, n: random.standard_t(2, size=n), 1.0, (0.0, FEW), id="heavy tails"),
        pytest.param(lambda random, n: random.exponential(size=n) - 1, 1.0, (0.0, FEW), id="skew"),
        # No t-test can handle this case, as the docs say: skewed values with very different spreads.
        pytest.param(lambda random, n: random.exponential(size=n) - 1, 10.0, (0.1, 0.25), id="skew, unequal spreads"),
    ],
)
@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_equivalence_is_rare_for_noise_that_is_not_normal(
    n: int, draw: Draw, ratio: float, between: tuple[float, float], record_property: Record
) -> None:
    random, false = np.random.default_rng(n), 0
    for _ in range(EXPERIMENTS):
        a, b = MARGIN + 0.05 * ratio * draw(random, n), 0.05 * draw(random, n)
        found = compare(seeds(a), seeds(b, first=100), margin=MARGIN).equivalence
        false += found is not None and found.within
    record_property("false_equivalent", false / EXPERIMENTS)
    assert between[0] <= false / EXPERIMENTS <= between[1]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_verdicts_are_rare_among_many_pairs(n: int, paired: bool, record_property: Record) -> None:
    """With two pairs of twins the margin apart, no twins may be called different, and no others equivalent."""
    any_equivalent = any_different = any_error = uncorrected = 0
    for pairs in families((MARGIN, MARGIN, 0.0, 0.0), 0.1, n, paired):
        twins = [found for a, b, found in pairs if int(a) // 2 == int(b) // 2]
        apart = [found.equivalence for a, b, found in pairs if int(a) // 2 != int(b) // 2]
        equivalent = any(found is not None and found.within for found in apart)
        different = any(found.verdict in ("better", "worse") for found in twins)
        uncorrected += any(found is not None and found.p < 0.05 for found in apart)
        any_equivalent, any_different = any_equivalent + equivalent, any_different + different
        any_error += equivalent or different
    record_property("any_false_equivalent", any_equivalent / EXPERIMENTS)
    record_property("any_false_difference", any_different / EXPERIMENTS)
    record_property("any_error", any_error / EXPERIMENTS)
    assert max(any_equivalent, any_different) / EXPERIMENTS <= FEW
    assert any_error / EXPERIMENTS <= 2 * FEW
    assert uncorrected / EXPERIMENTS > 0.1  # so a missing correction would be noticed


@pytest.mark.parametrize("n", [3, 5, 10])
def test_equal_groups_are_called_equivalent_if_the_spread_is_small(n: int, record_property: Record) -> None:
    random, shares = np.random.default_rng(n), {}
    for sd in (0.1, 0.3, 0.8):
        found = [compare(*map(seeds, random.normal(0.0, sd, (2, n))), margin=MARGIN) for _ in range(EXPERIMENTS)]
        shares[sd] = sum(difference.verdict == "equivalent" for difference in found) / EXPERIMENTS
        record_property(f"equivalent_sd_{sd}", shares[sd])
    assert shares[0.1] > (0.8 if n == 3 else 0.9)  # nearly all the others are "better" or "worse" within the margin
    assert shares[0.8] < 0.4 and shares[0.1] > shares[0.3] > shares[0.8]
