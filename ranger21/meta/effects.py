"""What helps, and with what: the posterior of each ingredient's effect, and of each pair's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranger21.meta.features import Features
from ranger21.meta.regression import Posterior
from ranger21.meta.space import Arm, Space, groups

DRAWS = 400  # random arms over which an effect is averaged


@dataclass(frozen=True)
class Effect:
    """The change in top-1, in points, of an optimizer with a given accuracy, with its 95 % credible interval.

    Attributes:
        mean: the change for the posterior mean of the effect on the logit of the top-1.
        names: one ingredient (or schedule), or two.
    """

    names: tuple[str, ...]
    mean: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def main_effects(features: Features, posterior: Posterior, accuracy: float) -> list[Effect]:
    """Return the effect of each group against the first one of its slot, averaged over random valid arms.

    Args:
        accuracy: the accuracy, as a fraction, to which an effect on the logit is added.
    """
    rng = np.random.default_rng(0)
    arms = [features.space.random(rng) for _ in range(DRAWS)]
    found = []
    for slot, options in features.space.slots.items():
        if options[0].value is not None:
            continue
        for group in groups(options)[1:]:
            changes = [
                features.encode(put) - features.encode(without)
                for arm in arms
                if (put := _with(features.space, arm, slot, group)) and (without := _with(features.space, arm, slot))
            ]
            if changes:
                found.append(_effect((group,), np.mean(changes, axis=0), posterior, accuracy))
    return found


def pair_effects(features: Features, posterior: Posterior, accuracy: float) -> list[Effect]:
    """Return for each pair of groups how much more both together give than the sum of each alone."""
    grouped = {group for options in features.space.slots.values() for group in groups(options)[1:]}
    found = []
    for place, term in enumerate(features.terms):
        if len(term.name) == 2 and set(term.name) <= grouped:
            x = np.zeros(len(features.terms))
            x[place] = 1
            found.append(_effect(term.name, x, posterior, accuracy))
    return found


def most_certain(effects: Sequence[Effect], count: int) -> list[Effect]:
    """Return the effects that differ most from 0 in units of their uncertainty."""
    return sorted(effects, key=lambda one: -abs(one.mean) / (one.high - one.low))[:count]


def _with(space: Space, arm: Arm, slot: str, group: str | None = None) -> Arm | None:
    """Return the arm with the defaults of a group in a slot (None: the slot's first), or None if that is not valid."""
    label = next(option.label for option in space.slots[slot] if group in (None, option.group))
    changed = {**arm, slot: label}
    return changed if space.is_valid(changed) else None


def _effect(names: tuple[str, ...], x: np.ndarray, posterior: Posterior, accuracy: float) -> Effect:
    logit = math.log(accuracy / (1 - accuracy))
    mean, low, high = (100 * (1 / (1 + math.exp(-logit - shift)) - accuracy) for shift in posterior.interval(x))
    return Effect(names, mean, low, high)
