"""Gradient centralization."""

from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import GradientTransform, Place
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, has_wide_units, unit_axes


@dataclass(frozen=True)
class Centralize(GradientTransform):
    """Subtract the mean of each unit from the gradient (Yong et al. 2020; Ranger21 section 2.3, equation 3).

    Deviation: units with a single element, such as the (C, 1, 1, 1) gains of a normalizer-free network, are not
    changed. Minus its mean, their gradient would always be zero.
    """

    name, place = "centralize", Place.GRADIENT
    sees = "a unit"

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        wide = [x for x in xs if has_wide_units(x)]
        if not wide:
            return xs
        means = [x.mean(dim=unit_axes(x), keepdim=True) for x in wide]
        if step.is_spare(xs):
            torch._foreach_sub_(wide, means)
            return xs
        centred = iter(torch._foreach_sub(wide, means))
        return [next(centred) if has_wide_units(x) else x for x in xs]
