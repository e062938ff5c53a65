"""RAdam's rectification."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ranger21.optim.ingredients.base import Ingredient, Place
from ranger21.optim.ingredients.second_moment import RootDivision, SecondMoment
from ranger21.optim.step import Step
from ranger21.optim.tensors import Number, root


@dataclass(frozen=True)
class Rectify(Ingredient):
    """RAdam's rectification of the adaptive learning rate's variance (Liu et al. 2020).

    The update is multiplied by r_t, and is not divided by the second moment while that variance is undefined
    (rho_t <= 5). As in the authors' code and torch's RAdam, `eps` is added before the bias correction, not after it.
    """

    name, place, role = "rectify", Place.CORRECTION, "rectification"

    def check(self, chain: Sequence[Ingredient]) -> None:
        if any(isinstance(other, SecondMoment) and other.running_max for other in chain):
            raise ValueError(
                "rectify and second_moment's running_max clash: rectify corrects the variance of the running mean."
            )

    def on_update(self, step: Step) -> None:
        assert isinstance(step.second, RootDivision)
        longest, length = lengths(step.t, step.second.moment.beta2)
        exists = length > 5
        if isinstance(exists, Tensor):
            step.second.divides = exists
        elif not exists:
            step.division = None
            return
        step.second.rectification = root(
            (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        )


def lengths(t: int | Tensor, beta2: float) -> tuple[float, Number]:
    """Return RAdam's rho_infinity and rho_t. The variance is defined if rho_t > 5 (Liu et al. 2020, Algorithm 2)."""
    longest = 2 / (1 - beta2) - 1
    return longest, longest - 2 * t * beta2**t / (1 - beta2**t)
