"""Gradient normalisation."""

from dataclasses import dataclass

from ranger21.optim.ingredients.base import ABOVE_0, Place, Transform, argument
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors


@dataclass(frozen=True)
class Normalize(Transform):
    """Gradient normalisation (the authors' code of July 2021): a tensor over (its standard deviation + `eps`).

    The standard deviation is the unbiased one, over the tensor. One of two elements or fewer is left alone.
    """

    name, place = "normalize", Place.GRADIENT
    sees = "a tensor"
    eps: float = argument(1e-8, ABOVE_0)

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        return [x / (x.std() + self.eps) if x.numel() > 2 else x for x in xs]
