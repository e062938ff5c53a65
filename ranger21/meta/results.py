"""What the trials of a search tell: the observations for the regression, and the best trial so far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ranger21.meta.propose import Observation
from ranger21.meta.record import RUNGS, Composed
from ranger21.tuning.record import Trial

HIGHEST = 0.9999  # accuracy, so that its logit is finite


def observations(trials: Iterable[Trial], chance: float) -> list[Observation]:
    """Return the trials as observations. The response is the logit of the top-1; a divergence counts as chance.

    Args:
        chance: the accuracy of guessing, as a fraction.
    """
    return [Observation(_arm(trial), trial.rung, response(trial, chance)) for trial in trials]


def response(trial: Trial, chance: float) -> float:
    """Return the logit of a trial's top-1, which is at least that of half of chance, and finite."""
    accuracy = chance if trial.objective is None else trial.objective / 100
    accuracy = min(max(accuracy, chance / 2), HIGHEST)
    return math.log(accuracy / (1 - accuracy))


def best_so_far(composed: Composed, trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """Return (images seen, best top-1 of a full-length trial so far) after each bracket of a search."""
    found: list[tuple[float, float]] = []
    best = 100 * composed.chance
    for bracket in range(composed.budget // RUNGS):
        whole = [t.objective for t in trials if t.round == bracket and t.rung == RUNGS - 1]
        best = max([best, *(value for value in whole if value is not None)])
        found.append(((bracket + 1) * RUNGS * composed.images, best))
    return found


def _arm(trial: Trial) -> dict[str, str]:
    return {slot: str(label) for slot, label in trial.values.items()}
