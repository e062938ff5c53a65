"""Rules that turn intervals and counts over seeds into the verdict on a claim."""

from __future__ import annotations

from scipy.special import betaincinv  # quantiles of the beta distribution: Clopper and Pearson's limits

from ranger21.config.protocol import ProtocolConfig
from ranger21.report.statistics.ttests import ENOUGH_SEEDS

REPRODUCED, CONTRADICTED, UNDECIDED = "reproduced", "contradicted", "cannot tell"
TOO_FEW, NOT_RUN = "too few seeds", "not run"
HOLDS, FAILS = "holds at this scale", "fails at this scale"

ENOUGH_FOR_A_SHARE = 5  # seeds: with fewer, even agreement of all does not show that most would agree
ENOUGH_VALIDATIONS = ProtocolConfig.min_validations  # per run, for claims about its curve


def within(low: float | None, high: float | None, n: int, least: float, most: float) -> str:
    """Judge whether a mean over n seeds lies between two limits.

    The claim is reproduced if the whole interval lies between the limits, and contradicted if all of it lies outside.
    """
    if n < ENOUGH_SEEDS:
        return TOO_FEW
    if low is None or high is None:  # equal values of unknown spread
        return UNDECIDED
    if least <= low and high <= most:
        return REPRODUCED
    return CONTRADICTED if high < least or low > most else UNDECIDED


def sign(low: float | None, high: float | None, n: int) -> str:
    """Judge whether an interval lies above 0 (reproduced), below 0 (contradicted), or includes 0."""
    if n < ENOUGH_SEEDS:
        return TOO_FEW
    if low is None or high is None:
        return UNDECIDED
    return REPRODUCED if low > 0 else CONTRADICTED if high < 0 else UNDECIDED


def always(count: int, n: int) -> str:
    """Judge a claim that all runs do something, from the number of seeds that did, out of n.

    The claim is reproduced if all seeds did and this shows that most would, and contradicted if it is shown that most
    would not; by one-sided 95 % limits of Clopper and Pearson (1934).
    """
    if n < ENOUGH_FOR_A_SHARE:
        return TOO_FEW
    least = float(betaincinv(count, n - count + 1, 0.05)) if count else 0.0
    most = float(betaincinv(count + 1, n - count, 0.95)) if count < n else 1.0
    return REPRODUCED if count == n and least > 0.5 else CONTRADICTED if most < 0.5 else UNDECIDED


def unless(verdict: str, doubt: bool) -> str:
    """Return the verdict, or "cannot tell" if there is doubt about the runs behind it."""
    return UNDECIDED if doubt and verdict in (REPRODUCED, CONTRADICTED) else verdict


def shown(mean: float, low: float | None, high: float | None, unit: str, digits: int = 2) -> str:
    """Return a mean with its unit and interval as text."""
    spread = "" if low is None or high is None else f" (95 % interval {low:.{digits}f} to {high:.{digits}f})"
    return f"{mean:.{digits}f}{unit}{spread}"
