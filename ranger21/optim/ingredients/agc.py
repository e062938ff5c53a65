"""Adaptive gradient clipping."""

from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import GradientTransform, Place, argument
from ranger21.optim.ranges import AGC_CLIPPING, AGC_EPS
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, mul, unit_norms


@dataclass(frozen=True)
class AGC(GradientTransform):
    """Adaptive gradient clipping (Brock et al. 2021; Ranger21 section 2.2, equation 2).

    Scale down each unit g of the gradient with ||g|| > clipping * max(||theta||, eps) to that norm, where theta is the
    unit's weights.

    Attributes:
        clipping: tau, above 0.
        eps: Lower bound of the weight norm, above 0, so that units initialized to zero can be trained.
    """

    name, place = "agc", Place.GRADIENT
    sees = "a unit"
    clipping: float = argument(1e-2, AGC_CLIPPING, tried=(1e-1,))
    eps: float = argument(1e-3, AGC_EPS)

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        factors = torch._foreach_clamp_min(step.norms, self.eps)
        torch._foreach_mul_(factors, self.clipping)
        torch._foreach_div_(factors, unit_norms(xs))  # infinite for a zero gradient; the next line makes it 1
        torch._foreach_clamp_max_(factors, 1.0)
        return mul(xs, list(factors), out=step.spare())
