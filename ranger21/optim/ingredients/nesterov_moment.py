"""Nesterov's first moment."""

from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import Place
from ranger21.optim.ingredients.first_moment import FirstMoment
from ranger21.optim.step import Step


@dataclass(frozen=True)
class NesterovMoment(FirstMoment):
    """Nesterov's first moment as used by Muon (Jordan et al. 2024; Dozat 2016).

    m <- beta1 m + (1 - beta1) g; the update is (beta1 m + (1 - beta1) g) / (1 - beta1^(t + 1)). With this bias
    correction the update is a weighted mean of the gradients.
    """

    name, place, role = "nesterov_moment", Place.FIRST_MOMENT, "first moment"
    uses_gradient = True

    def on_update(self, step: Step) -> None:
        step.update = list(torch._foreach_lerp(step.gradient, step.state["exp_avg"], self.beta1))
        step.correction1 = 1 - self.beta1 ** (step.t + 1)
        step.gain = 1 / step.correction1
