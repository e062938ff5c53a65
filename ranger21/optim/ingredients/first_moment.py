"""Adam's first moment."""

from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import Ingredient, Place, argument
from ranger21.optim.ranges import BETA
from ranger21.optim.step import Step


@dataclass(frozen=True)
class FirstMoment(Ingredient):
    """Adam's first moment (Ranger21 Algorithm 1, lines 4 and 5).

    m <- beta1 m + (1 - beta1) g; the update is m / (1 - beta1^t).

    Attributes:
        beta1: Decay rate, in [0, 1).
    """

    name, place, role = "first_moment", Place.FIRST_MOMENT, "first moment"
    keeps = ("exp_avg",)
    beta1: float = argument(0.9, BETA, tried=(0.95,))

    def on_gradient(self, step: Step) -> None:
        torch._foreach_lerp_(step.state["exp_avg"], step.gradient, 1 - self.beta1)

    def on_update(self, step: Step) -> None:
        step.update = step.state["exp_avg"]
        step.correction1 = 1 - self.beta1**step.t
        step.gain = 1 / step.correction1
