"""What a figure over seeds says of a claim: a verdict needs the whole interval, never the mean alone."""

from __future__ import annotations

from scipy.special import betaincinv  # quantiles of the beta distribution: Clopper and Pearson's limits

from ranger21.config.protocol import ProtocolConfig
from ranger21.report.statistics.ttests import ENOUGH_SEEDS

REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "cannot tell"
TOO_FEW, NOT_RUN = "too few seeds", "not run"
HOLDS, FAILS = "holds at this scale", "fails at this scale"

ENOUGH_FOR_A_SHARE = 5  # seeds: with fewer, not even "all of them" shows that most would
ENOUGH_VALIDATIONS = ProtocolConfig.min_validations  # of a run whose course is judged


def within(low: float | None, high: float | None, n: int, least: float, most: float) -> str:
    """Judge by its interval over n seeds whether a mean lies between two limits.

    Reproduced only if the whole interval lies between them, contradicted only if the whole of it lies outside.
    """
    if n < ENOUGH_SEEDS:
        return TOO_FEW
    if low is None or high is None:  # equal values, of which nothing tells the spread
        return UNDECIDED
    if least <= low and high <= most:
        return REPRODUCED
    return CONTRADICTED if high < least or low > most else UNDECIDED


def sign(low: float | None, high: float | None, n: int) -> str:
    """Judge whether an interval excludes 0 on the claimed side (above), on the other, or not at all."""
    if n < ENOUGH_SEEDS:
        return TOO_FEW
    if low is None or high is None:
        return UNDECIDED
    return REPRODUCED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED


def always(count: int, n: int) -> str:
    """Judge a claim that all runs do something, by how many of n seeds did.

    Reproduced if all did, and are so many that most runs would; contradicted if most would not. Each by a one-sided
    95 % limit of Clopper and Pearson (1934).
    """
    if n < ENOUGH_FOR_A_SHARE:
        return TOO_FEW
    least = float(betaincinv(count, n - count + 1, 0.05)) if count else 0.0
    most = float(betaincinv(count + 1, n - count, 0.95)) if count < n else 1.0
    return REPRODUCED if count == n and least > 0.5 else CONTRADICTED if most < 0.5 else UNDECIDED


def unless(verdict: str, doubt: bool) -> str:
    """Return the verdict, but that one cannot tell where there is a doubt about the runs behind it."""
    return UNDECIDED if doubt and verdict in (REPRODUCED, CONTRADICTED) else verdict


def shown(mean: float, low: float | None, high: float | None, unit: str, digits: int = 2) -> str:
    """Return a mean with its unit and interval, as a clause."""
    spread = "" if low is None or high is None else f" (95 % interval {low:.{digits}f} to {high:.{digits}f})"
    return f"{mean:.{digits}f}{unit}{spread}"
