"""Adaptive gradient clipping."""

from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import ABOVE_0, Place, Transform, argument
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, mul, unit_norms


@dataclass(frozen=True)
class AGC(Transform):
    """Adaptive gradient clipping (Brock et al. 2021; Ranger21 section 2.2, equation 2).

    Shorten every unit of the gradient whose norm exceeds `clipping` (tau) times the norm of the unit's weights, the
    latter taken as at least `eps` so that a zero-initialised unit can leave zero.
    """

    name, place = "agc", Place.GRADIENT
    sees = "a unit"
    clipping: float = argument(1e-2, ABOVE_0)
    eps: float = argument(1e-3, ABOVE_0)

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        factors = torch._foreach_clamp_min(step.norms, self.eps)
        torch._foreach_mul_(factors, self.clipping)
        torch._foreach_div_(factors, unit_norms(xs))  # infinite for a gradient of zero, and 1 after the next line
        torch._foreach_clamp_max_(factors, 1.0)
        return mul(xs, list(factors), out=step.spare())
