"""Intervals of accuracies rounded by a small validation set, in simulated experiments with known truth.

`pytest tests/test_simulations_quantum.py --junitxml=FILE` records the rates found.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.statistics import Record, compare, ends, seeds

from ranger21.report.statistics.pairs import estimate

EXPERIMENTS = 1000
ENOUGH = 0.95 - 3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)
SPREADS = (0.02, 0.1, 0.3, 1.0, 3.0)  # in steps


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_of_a_rounded_mean_has_its_coverage(n: int, record_property: Record) -> None:
    random = np.random.default_rng(n)
    for spread in SPREADS:
        by_root_n = 1 / math.sqrt(n)  # the bound, if it shrank with the number of seeds like the error of a mean
        covered = {1.0: 0, by_root_n: 0, 0.0: 0}
        for truth in random.uniform(0.0, 1.0, EXPERIMENTS):
            values = np.round(random.normal(truth, spread, n))
            for quantum in covered:
                found = estimate(values, quantum=quantum)
                covered[quantum] += found is not None and found.low is not None and found.low <= truth <= found.high
        record_property(f"covered_{spread}", covered[1.0] / EXPERIMENTS)
        record_property(f"covered_{spread}_by_root_n", covered[by_root_n] / EXPERIMENTS)
        record_property(f"covered_{spread}_without_the_bound", covered[0.0] / EXPERIMENTS)
        assert covered[1.0] / EXPERIMENTS >= ENOUGH
        assert spread > 0.3 or covered[0.0] / EXPERIMENTS < 0.9
        assert spread > 0.02 or n < 5 or covered[by_root_n] / EXPERIMENTS < 0.9


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_rounded_differences_have_their_coverage_and_equal_groups_no_verdict(
    n: int, paired: bool, record_property: Record
) -> None:
    random = np.random.default_rng(n)
    for spread in SPREADS:
        covered = verdicts = 0
        for truth_a, truth_b in random.uniform(0.0, 1.0, (EXPERIMENTS, 2)):
            shared = random.normal(0.0, 3.0, n) if paired else 0.0
            a, b, twin = (np.round(random.normal(x, spread, n) + shared) for x in (truth_a, truth_b, truth_a))
            first = 0 if paired else 100
            low, high = ends(compare(seeds(a), seeds(b, first), quantum=1.0))
            covered += low <= truth_a - truth_b <= high
            verdicts += compare(seeds(a), seeds(twin, first), quantum=1.0).verdict != "cannot tell"
        record_property(f"covered_{spread}", covered / EXPERIMENTS)
        record_property(f"verdicts_{spread}", verdicts / EXPERIMENTS)
        assert covered / EXPERIMENTS >= ENOUGH
        assert verdicts / EXPERIMENTS <= 1 - ENOUGH
