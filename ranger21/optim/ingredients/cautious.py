"""Cautious updates."""

from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import GradientTransform, Place, argument
from ranger21.optim.ranges import ABOVE_0
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, mul


@dataclass(frozen=True)
class Cautious(GradientTransform):
    """Zero the update where it differs in sign from the gradient (Liang et al. 2024, "Cautious Optimizers").

    The remaining update of a tensor is divided by the fraction of elements that remain, or by `least` if that is
    larger.

    Attributes:
        least: Lower bound of that fraction, above 0.
    """

    name, place, role = "cautious", Place.UPDATE, "caution"
    uses_gradient = True
    sees = "a tensor"
    least: float = argument(1e-3, ABOVE_0)

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        masks = [(x > 0).to(x.dtype) for x in torch._foreach_mul(xs, step.gradient)]
        torch._foreach_div_(masks, [mask.mean().clamp(min=self.least) for mask in masks])
        return mul(xs, masks)
