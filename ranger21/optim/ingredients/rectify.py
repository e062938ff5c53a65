"""RAdam's rectification."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ranger21.optim.ingredients.base import Ingredient, Place
from ranger21.optim.ingredients.second_moment import Second, SecondMoment
from ranger21.optim.step import Step


@dataclass(frozen=True)
class Rectify(Ingredient):
    """RAdam's rectification of the second moment's variance (Liu et al. 2020): no division until that variance exists.

    As in its authors' code and torch's, the second moment's `eps` is added before the bias correction, not after it.
    """

    name, place, role = "rectify", Place.CORRECTION, "rectification"

    def check(self, chain: Sequence[Ingredient]) -> None:
        if any(isinstance(other, SecondMoment) and other.running_max for other in chain):
            raise ValueError("rectify and second_moment's running_max clash: the variance it corrects is the mean's.")

    def on_update(self, step: Step) -> None:
        assert isinstance(step.second, Second)
        factor = rectification(step.t, step.second.moment.beta2)
        step.second.rectification = factor
        step.division = None if factor is None else step.second


def rectification(t: int, beta2: float) -> float | None:
    """Return RAdam's r_t (its Algorithm 2); None as long as the variance that it corrects does not exist."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return None
    return math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
