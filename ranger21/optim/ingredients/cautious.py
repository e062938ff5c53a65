"""Caution."""

from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import ABOVE_0, Place, Transform, argument
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, mul


@dataclass(frozen=True)
class Cautious(Transform):
    """Caution (Liang et al. 2024, "Cautious Optimizers"): no step where update and gradient differ in sign.

    What is left of a tensor's update is divided by the share that is left, which is taken as `least` at least.
    """

    name, place, role = "cautious", Place.UPDATE, "caution"
    uses_gradient = True
    sees = "a tensor"
    least: float = argument(1e-3, ABOVE_0)

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        masks = [(x > 0).to(x.dtype) for x in torch._foreach_mul(xs, step.gradient)]
        torch._foreach_div_(masks, [mask.mean().clamp(min=self.least) for mask in masks])
        return mul(xs, masks)
