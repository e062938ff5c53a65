"""Gradient normalization."""

from dataclasses import dataclass

from ranger21.optim.ingredients.base import GradientTransform, Place, argument
from ranger21.optim.ranges import ABOVE_0
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors


@dataclass(frozen=True)
class Normalize(GradientTransform):
    """Divide each tensor by (its standard deviation + `eps`), as in the authors' code of July 2021.

    The standard deviation is the unbiased one over the whole tensor. Tensors with at most two elements are not changed.
    """

    name, place = "normalize", Place.GRADIENT
    sees = "a tensor"
    eps: float = argument(1e-8, ABOVE_0)

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        return [x / (x.std() + self.eps) if x.numel() > 2 else x for x in xs]
