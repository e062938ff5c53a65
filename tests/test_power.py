"""Power: against scipy's noncentral t and textbooks, for recorded runs, and the table in docs/reproduce.md."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats
from support.run_directories import MakeRun
from support.statistics import seeds

from ranger21.report.statistics.power import (
    MOST,
    POWER,
    Spread,
    chance,
    gap_found,
    paired_spread,
    seeds_needed,
    unpaired_spread,
)
from ranger21.report.tables.power_table import markdown, seed_plans, summary, write_power
from ranger21.report.tables.text import table_lines
from ranger21.report.write import examine

ROOT = Path(__file__).resolve().parents[1]


def spread_of(sd: float, paired: bool) -> Spread:
    """Return a spread: that of the differences if paired, else one for each group."""
    return Spread((sd,)) if paired else Spread((sd, sd))


@pytest.mark.parametrize(
    ("effect", "paired", "unpaired"), [(0.2, 199, 394), (0.5, 34, 64), (0.8, 15, 26), (1.0, 10, 17)]
)
def test_seeds_needed_agrees_with_cohens_tables(effect: float, paired: int, unpaired: int) -> None:
    """The effect is in standard deviations; the power is 80 % and the significance level 5 %."""
    assert seeds_needed(effect, spread_of(1.0, paired=True)) == paired
    assert seeds_needed(effect, spread_of(1.0, paired=False)) == unpaired


@pytest.mark.parametrize("tests", [1, 10, 190])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_paired_power_equals_scipys_noncentral_t(n: int, tests: int) -> None:
    critical = stats.t.isf(0.05 / tests / 2, n - 1)
    for gap in (0.1, 1.0, 3.0, 10.0, 100.0):
        expected = stats.nct.sf(critical, n - 1, gap / (0.4 / math.sqrt(n)))
        assert chance(gap, Spread((0.4,)), (n, n), tests) == pytest.approx(1.0 if math.isnan(expected) else expected)


@pytest.mark.parametrize("sds", [(1.0, 1.0), (0.2, 0.9), (3.0, 0.1)])
@pytest.mark.parametrize("n", [(2, 2), (3, 3), (5, 5), (3, 8), (10, 4)])
def test_unpaired_power_equals_a_numeric_integral(sds: tuple[float, float], n: tuple[int, int]) -> None:
    """scipy integrates over the first group's share in the sum of the two chi-squares."""
    df, true = sum(n) - 2, math.sqrt(sds[0] ** 2 / n[0] + sds[1] ** 2 / n[1])

    def given(share: float, gap: float) -> float:
        a, b = (sd**2 / k * part * df / (k - 1) for sd, k, part in zip(sds, n, (share, 1 - share), strict=True))
        welch = (a + b) ** 2 / (a**2 / (n[0] - 1) + b**2 / (n[1] - 1))
        critical = stats.t.isf(0.025, welch) * math.sqrt(a + b) / true
        return float(stats.nct.sf(critical, df, gap / true))

    beta = stats.beta((n[0] - 1) / 2, (n[1] - 1) / 2)
    for gap in (true, 4 * true):
        whole = integrate.quad(lambda u, gap=gap: given(beta.ppf(u), gap), 0, 1)[0]
        assert chance(gap, Spread(sds), n) == pytest.approx(whole, abs=3e-3)


@pytest.mark.parametrize("tests", [1, 10, 190])
@pytest.mark.parametrize("sds", [(1.0,), (1.0, 1.0), (0.2, 0.9)])
def test_seeds_needed_is_the_smallest_number_with_enough_power(sds: tuple[float, ...], tests: int) -> None:
    for gap in (0.3, 1.0, 3.0):
        needed = seeds_needed(gap, Spread(sds), tests)
        assert needed is not None
        chances = [chance(gap, Spread(sds), (n, n), tests) for n in (needed - 1, needed)]
        assert chances[1] >= POWER and (chances[0] < POWER or needed == 3)
    for n in ((3, 3), (5, 4), (10, 10)):
        assert chance(gap_found(Spread(sds), n, tests), Spread(sds), n, tests) == pytest.approx(POWER, abs=1e-6)


def test_the_spread_is_the_sample_standard_deviation() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(0, 0.2, 5), random.normal(0, 0.9, 7)
    both, each = paired_spread(seeds(a), seeds(b)), unpaired_spread(seeds(a), seeds(b, first=50))
    assert both is not None and each is not None
    assert (both.sds, both.seen) == ((pytest.approx(np.std(a - b[:5], ddof=1)),), 4)
    assert each.sds == (pytest.approx(np.std(a, ddof=1)), pytest.approx(np.std(b, ddof=1)))
    assert each.sd == pytest.approx(math.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2))
    assert paired_spread(seeds(a), seeds(b, first=50)) is paired_spread(seeds(a), seeds(b, first=4)) is None
    assert unpaired_spread(seeds(a), seeds([1.0])) is unpaired_spread({}, seeds(a)) is None


def test_more_noise_and_more_pairs_need_more_seeds() -> None:
    needed = [seeds_needed(0.3, spread_of(sd, paired=True)) for sd in (0.01, 0.1, 0.3, 0.8, 8.0, 80.0)]
    assert needed[:2] == [3, 4] and needed[-1] is None
    assert sorted(n for n in needed if n) == needed[:-1]
    more = [seeds_needed(0.3, spread_of(0.3, paired=False), tests) or 0 for tests in (1, 3, 10, 45, 190)]
    assert sorted(set(more)) == more
    for paired in (True, False):
        fine, coarse = spread_of(0.001, paired), 100 / 30  # an image is 3.3 points
        assert seeds_needed(1.0, fine, quantum=coarse) is None and seeds_needed(20.0, fine, quantum=coarse) == 3
        assert seeds_needed(1.0, spread_of(0.3, paired), quantum=0.01) == seeds_needed(1.0, spread_of(0.3, paired))


# Recorded runs


def test_the_power_table_of_recorded_runs(make_run: MakeRun, tmp_path: Path) -> None:
    finals = {"adamw": (60.0, 61.0, 63.0, 61.5), "ranger21": (60.2, 60.9, 63.4, 61.6), "nesterov": (62.0,)}
    make_run("nesterov", 1, (10.0,), status="diverged", trainer__epochs=2)  # seeds cannot average this out
    for optimizer, values in finals.items():
        for seed, value in enumerate(values):
            make_run(optimizer, seed, (50.0, value))
    (comparison,) = examine([str(tmp_path / "outputs")]).comparisons
    plans = {frozenset((plan.a, plan.b)): plan for plan in seed_plans(comparison, 0.3)}
    whole = plans[frozenset(("adamw", "ranger21"))]
    assert whole.paired is not None and whole.unpaired is not None and whole.found is not None
    spread = paired_spread(seeds(list(finals["ranger21"])), seeds(list(finals["adamw"])))
    assert spread is not None and whole.paired.spread == spread
    assert whole.paired.seeds == seeds_needed(0.3, spread, tests=3)
    assert whole.found == pytest.approx(gap_found(spread, (4, 4)))  # the other pairs have too few seeds to be tested
    assert (whole.paired.low or 0) < (whole.paired.seeds or 0) < (whole.paired.high or math.inf)
    assert (whole.unpaired.seeds or math.inf) > (whole.paired.seeds or 0)  # paired seeds share much of their noise
    for pair, plan in plans.items():
        assert "nesterov" not in pair or (plan.found, plan.paired, plan.unpaired) == (None, None, None)
    sentence = summary(list(plans.values()), 0.3)
    assert "a gap of 0.3 points in final top-1 with a power of 80 %, after the correction over 3 pairs" in sentence
    assert f": {whole.paired.seeds} paired by seed (from 1 of 3 pairs; the others show no spread), " in sentence
    text = markdown(comparison, 0.3)
    assert f"| {whole.found:.2f} | {spread.sd:.2f} | {whole.paired.seeds} ({whole.paired.low} to " in text
    rows = [line for line in text.splitlines() if "nesterov" in line and line.endswith("| – | – | – | – | – |")]
    assert len(rows) == 2
    assert write_power([comparison], 0.3, tmp_path) == tmp_path / "power.md"


def test_runs_without_a_spread_have_no_power_estimate(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in range(3):
        make_run("ranger21", seed, (50.0, 70.0))
    (comparison,) = examine([str(tmp_path / "outputs")]).comparisons
    assert seed_plans(comparison, 0.3) == [] and write_power([comparison], 0.3, tmp_path) is None
    for seed in range(3):
        make_run("adamw", seed, (50.0, 60.0))
    (comparison,) = examine([str(tmp_path / "outputs")]).comparisons
    (plan,) = seed_plans(comparison, 0.3)
    assert plan.cells[2:] == ("3 and 3", "–", "–", "–", "–", "–")
    assert "no pair has two seeds" in summary([plan], 0.3)
    assert f"more than {MOST:,}" not in markdown(comparison, 0.3)


# The docs


@pytest.mark.parametrize("paired", [True, False])
def test_the_table_in_the_docs_is_up_to_date(paired: bool) -> None:
    gaps, text = (2.61, 1.0, 0.3, 0.1), (ROOT / "docs" / "reproduce.md").read_text()
    rows = [
        [f"{sd}", *(" / ".join(f"{seeds_needed(gap, spread_of(sd, paired), m):,}" for m in (1, 10)) for gap in gaps)]
        for sd in (0.1, 0.2, 0.3, 0.8)
    ]
    head = "sd of the differences" if paired else "sd of each optimizer's seeds"
    lines = table_lines([head, *(f"{gap} points" for gap in gaps)], rows, right=range(1, 5))
    assert "\n".join(lines) in text
    five = [gap_found(spread_of(1.0, paired), (5, 5), m) for m in (1, 10)]
    kind = "of the differences (paired)" if paired else "of each optimizer's seeds (unpaired)"
    assert f"{five[0]:.1f} standard deviations {kind}, {five[1]:.1f} among ten pairs" in " ".join(text.split())
