"""Weight decay as a term of the gradient or of the update."""

from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import GradientTransform, Place
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors


@dataclass(frozen=True)
class L2(GradientTransform):
    """Add weight_decay * theta to the gradient (L2 regularization, as in Adam) or to the update (as in LAMB)."""

    name, place, role = "l2", Place.ANYWHERE, "decay"

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        return list(torch._foreach_add(xs, step.params, alpha=step.weight_decay))

    def on_gradient(self, step: Step) -> None:
        if step.weight_decay:
            super().on_gradient(step)

    def on_update(self, step: Step) -> None:
        if step.weight_decay:
            super().on_update(step)
