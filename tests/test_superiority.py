"""The statistics over workloads: against brute force and scipy, and in simulated experiments with known truth.

`pytest tests/test_superiority.py --junitxml=FILE` records the rates found in simulations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ranger21.report.statistics.interquartile import estimate_interquartile, interquartile_mean
from ranger21.report.statistics.superiority import Strata, superiority
from ranger21.report.workloads.scores import Scores
from ranger21.report.workloads.workloads import LEVEL, judge

Array = NDArray[np.float64]
Record = Callable[[str, object], None]
EXPERIMENTS = 300
FEW = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / EXPERIMENTS)
LEVELS = np.array([0.88, 0.75, 0.72, 0.55])[:, None]  # of four workloads; below, their spreads over seeds
SPREADS = np.array([0.003, 0.006, 0.009, 0.025])[:, None]
WORST = -math.inf


def by_brute_force(strata: Strata) -> float:
    """Return the share of permutations of runs within workloads that are at least as far from even as the data."""
    parts = []
    for a, b in strata:
        values = [*a, *b]
        chosen = itertools.combinations(range(len(values)), len(a))
        parts.append([share([values[i] for i in c], [v for i, v in enumerate(values) if i not in c]) for c in chosen])
    seen = abs(math.fsum(share(a, b) - 0.5 for a, b in strata))
    ways = [abs(math.fsum(way) - len(strata) / 2) >= seen - 1e-9 for way in itertools.product(*parts)]
    return sum(ways) / len(ways)


def share(a: Sequence[float], b: Sequence[float]) -> float:
    return sum((x > y) + (x == y) / 2 for x in a for y in b) / (len(a) * len(b))


@pytest.mark.parametrize(
    "strata",
    [
        [([3.0, 4.0, 5.0], [1.0, 2.0, 2.5]), ([3.0, 4.0, 5.0], [1.0, 2.0, 4.5])],
        [([1.0, 1.0, 2.0], [1.0, 3.0]), ([5.0, 5.0], [5.0, 5.0, 7.0]), ([1.0, 9.0], [2.0, 3.0, 4.0, 5.0])],
        [([WORST, WORST, 2.0], [WORST, 3.0, 3.0]), ([0.5, 0.6, 0.7], [0.1, 0.2, 0.65])],
        [([7.0, 7.0, 7.0], [7.0, 7.0, 7.0]), ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])],
    ],
)
def test_p_equals_that_of_all_permutations(strata: Strata) -> None:
    found = superiority(strata)
    assert found.p == pytest.approx(by_brute_force(strata), abs=1e-12)
    assert found.each == pytest.approx([share(a, b) for a, b in strata])
    assert found.probability == pytest.approx(np.mean(found.each))
    assert 0 <= found.low <= found.probability <= found.high <= 1


def test_on_one_workload_p_is_that_of_mann_whitney() -> None:
    random = np.random.default_rng(4)
    for sizes in [(3, 3), (5, 4), (8, 9)]:
        a, b = (random.normal(size=size).tolist() for size in sizes)
        exact = stats.mannwhitneyu(a, b, method="exact")
        found = superiority([(a, b)])
        assert (found.p, found.probability) == pytest.approx((exact.pvalue, exact.statistic / (len(a) * len(b))))


def test_many_runs_use_the_normal_approximation() -> None:
    random = np.random.default_rng(5)
    a, b = random.integers(0, 30, 60).tolist(), random.integers(3, 33, 50).tolist()
    wanted = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False).pvalue
    assert superiority([(a, b)]).p == pytest.approx(wanted)
    assert superiority([([1.0] * 60, [1.0] * 60)]).p == 1.0


def test_the_interval_is_newcombes() -> None:
    """Newcombe's example has 10 and 12 values and U / mn of 0.25 and 1; the limits solve his equation."""
    a, b = list(range(10, 20)), [0.5 + 2 * k for k in range(12)]
    found = superiority([([float(x) for x in a], b)])
    for end in (found.low, found.high):
        shape = (1 - end) / (2 - end) + end / (1 + end)
        variance = end * (1 - end) * (1 + (11 - 1) * shape) / 120
        assert abs(end - found.probability) == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-4)
    assert superiority([([2.0] * 5, [1.0] * 5)] * 4).high == 1.0
    assert 0.8 < superiority([([2.0] * 5, [1.0] * 5)] * 4).low < 0.95


def test_the_interquartile_mean_equals_scipys_and_sums_by_hand() -> None:
    random = np.random.default_rng(6)
    strata = random.normal(size=(4, 5)).tolist()
    flat = [value for values in strata for value in values]
    assert interquartile_mean(strata) == pytest.approx(stats.trim_mean(flat, 0.25))
    assert interquartile_mean([[1.0, 2.0, 6.0]]) == pytest.approx((0.25 * 1 + 1 * 2 + 0.25 * 6) / 1.5)
    assert interquartile_mean([[0.0] * 10, [1.0] * 2]) == pytest.approx(0.5)  # each workload has the same weight


def test_the_interval_of_the_interquartile_mean_is_reproducible() -> None:
    strata = [[0.7, 0.8, 0.75], [0.4, 0.5, 0.45]]
    first, again = (estimate_interquartile(strata) for _ in range(2))
    assert first == again
    assert first is not None
    assert first.n == 6
    alone = estimate_interquartile([[0.5], [0.6, 0.7]])
    assert alone is not None
    assert (alone.sd, alone.low) == (None, None)
    assert estimate_interquartile([[0.5], []]) is None


def test_the_error_is_that_of_the_middle_runs() -> None:
    """Only the middle two of four separate workloads count; a bootstrap with as many draws as runs is too small."""
    strata = [[level + spread * z for z in (-1.0, 0.0, 1.0)] for level, spread in ((0, 9), (20, 1), (40, 2), (60, 9))]
    found = estimate_interquartile(strata)
    assert found is not None
    assert found.sd is not None
    assert (found.mean, found.sd) == pytest.approx((30.0, math.sqrt((1 + 4) / 3) / 2), rel=0.06)
    assert found.high == pytest.approx(30 + stats.t.ppf(0.975, 4) * found.sd)


# Simulations


@pytest.mark.parametrize(("n", "least", "most"), [(3, 0.90, 0.975), (5, 0.92, 0.98), (10, 0.92, 0.98)])
def test_the_interval_of_the_interquartile_mean_has_its_coverage(
    n: int, least: float, most: float, record_property: Record
) -> None:
    random = np.random.default_rng(n)
    truth = interquartile_mean((LEVELS + SPREADS * random.normal(size=(4, 50_000))).tolist())
    found = [estimate_interquartile((LEVELS + SPREADS * random.normal(size=(4, n))).tolist()) for _ in range(150)]
    covered = sum(e is not None and e.low is not None and e.low <= truth <= (e.high or 0) for e in found) / 150
    record_property("covered", covered)
    assert least <= covered <= most


def contestants(values: Array, failing: NDArray[np.bool_] | None = None) -> dict[str, list[Scores]]:
    """Return the scores of made-up values (contestant × workload × seed), some of which failed."""
    lost = np.zeros(values.shape, bool) if failing is None else failing
    return {
        f"optimizer {index}": [
            Scores(
                {seed: value for seed, value in enumerate(row) if not bad[seed]},
                frozenset(np.flatnonzero(bad)),
                0,
                10.0,
            )
            for row, bad in zip(rows.tolist(), lost[index], strict=True)
        ]
        for index, rows in enumerate(values)
    }


def verdicts(scores: dict[str, list[Scores]]) -> list[str]:
    return [pair.verdict for pair in judge(scores, ["a", "b", "c", "d"])]


DRAWS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "equal": lambda random, n: LEVELS + SPREADS * random.normal(size=(3, 4, n)),
    "equal, paired by seed": lambda random, n: (
        LEVELS + SPREADS * (random.normal(size=(3, 4, n)) + 2 * random.normal(size=(1, 4, n)))
    ),
    "heavy tails": lambda random, n: LEVELS + SPREADS * random.standard_t(2, size=(3, 4, n)),
}


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("kind", DRAWS)
def test_equal_optimizers_rarely_get_an_overall_verdict(kind: str, n: int, record_property: Record) -> None:
    random = np.random.default_rng(n)
    found = [verdicts(contestants(DRAWS[kind](random, n))) for _ in range(EXPERIMENTS)]
    any_verdict = sum(set(each) != {"cannot tell"} for each in found) / EXPERIMENTS
    record_property("any_verdict", any_verdict)
    assert any_verdict <= FEW


@pytest.mark.parametrize("n", [3, 5, 10])
def test_better_on_half_of_the_workloads_and_worse_on_half_gets_no_verdict(n: int, record_property: Record) -> None:
    random = np.random.default_rng(n)
    shift = np.array([1.0, 1.0, -1.0, -1.0])[:, None] * np.array([1.0, 0.0])[:, None, None]
    found = [verdicts(contestants(random.normal(size=(2, 4, n)) + shift)) for _ in range(EXPERIMENTS)]
    any_verdict = sum(set(each) != {"cannot tell"} for each in found) / EXPERIMENTS
    record_property("any_verdict", any_verdict)
    assert any_verdict <= FEW


@pytest.mark.parametrize("lost", [0.2, 0.4])
@pytest.mark.parametrize("n", [5, 10])
def test_an_optimizer_whose_worst_runs_diverge_is_not_called_better(
    n: int, lost: float, record_property: Record
) -> None:
    """The two optimizers are equal, except that the first diverges when its run would be among the worst."""
    random = np.random.default_rng(n)
    better = 0
    for _ in range(EXPERIMENTS):
        values = random.normal(size=(2, 4, n))
        failing = (values < stats.norm.ppf(lost)) & np.array([True, False])[:, None, None]
        better += verdicts(contestants(values, failing)) == ["better"]
    record_property("better", better / EXPERIMENTS)
    assert better / EXPERIMENTS <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / EXPERIMENTS)


def test_a_gain_of_one_spread_is_found_with_five_seeds(record_property: Record) -> None:
    random = np.random.default_rng(5)
    gain = np.array([1.0, 0.0])[:, None, None]
    found = [verdicts(contestants(random.normal(size=(2, 4, 5)) + gain)) for _ in range(EXPERIMENTS)]
    record_property("found", found.count(["better"]) / EXPERIMENTS)
    assert found.count(["better"]) > 0.75 * EXPERIMENTS
    assert ["worse"] not in found
