"""`best_of`, the distribution of the best of k trials, compared with an enumeration of all orders."""

from __future__ import annotations

from itertools import permutations
from statistics import fmean

import pytest

from ranger21.tuning.best_of import best_of

VALUES = (70.0, 10.0, 72.5, 71.0, 10.0)


@pytest.mark.parametrize("k", range(1, len(VALUES) + 1))
def test_best_of_matches_an_enumeration_of_all_orders(k: int) -> None:
    reached = sorted(max(order[:k]) for order in permutations(VALUES))
    found = best_of(VALUES, k)
    assert found.mean == pytest.approx(fmean(reached), abs=1e-12)
    assert sum(found.low <= value <= found.high for value in reached) >= 0.95 * len(reached)
    assert (found.low, found.high) == (reached[int(0.025 * len(reached))], reached[-int(0.025 * len(reached)) - 1])


def test_best_of_rises_with_k_and_ignores_the_order_of_the_trials() -> None:
    means = [best_of(VALUES, k).mean for k in range(1, 6)]
    assert means == sorted(means) and means[0] == pytest.approx(fmean(VALUES)) and means[-1] == 72.5
    assert best_of(VALUES[::-1], 3) == best_of(VALUES, 3)
    for k in (0, 6):
        with pytest.raises(ValueError, match="must be between 1 and"):
            best_of(VALUES, k)
