"""Positive-negative momentum."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ranger21.optim.ingredients.base import Ingredient, Place, argument
from ranger21.optim.ranges import BETA, PNM_BETA
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, add, copy_


@dataclass(frozen=True)
class PNM(Ingredient):
    """Positive-negative momentum (Xie et al. 2021; Ranger21 section 2.4, Algorithm 2).

    Two first moments are updated in alternate steps: m_t <- beta1^2 m_{t-2} + (1 - beta1^2) g. The update is
    ((1 + beta0) m_t - beta0 m_{t-1}) / ((1 - beta1^t) sqrt((1 + beta0)^2 + beta0^2)); the square root preserves the
    magnitude of the gradient noise.

    Attributes:
        beta1: Decay rate, in [0, 1).
        beta0: Weight of the older moment, at least 0.
    """

    name, place, role = "pnm", Place.FIRST_MOMENT, "first moment"
    keeps = ("exp_avg_odd", "exp_avg_even")
    beta1: float = argument(0.9, BETA)
    beta0: float = argument(0.9, PNM_BETA)

    @property
    def noise(self) -> float:
        """The noise normalizer, sqrt((1 + beta0)^2 + beta0^2) (Algorithm 2, line 6)."""
        return math.hypot(1 + self.beta0, self.beta0)

    def turns(self, step: Step) -> tuple[Tensors, Tensors]:
        """Return the moments m_t, which this step updates, and m_{t-1}; copies if steps are counted on the device."""
        odd, even = step.state["exp_avg_odd"], step.state["exp_avg_even"]
        if isinstance(step.t, Tensor):
            return chosen(step.t % 2 == 1, odd, even), chosen(step.t % 2 == 1, even, odd)
        return (odd, even) if step.t % 2 else (even, odd)

    def on_gradient(self, step: Step) -> None:
        current, previous = self.turns(step)
        torch._foreach_lerp_(current, step.gradient, 1 - self.beta1**2)
        if isinstance(step.t, Tensor):
            copy_(step.state["exp_avg_odd"], chosen(step.t % 2 == 1, current, previous))
            copy_(step.state["exp_avg_even"], chosen(step.t % 2 == 1, previous, current))

    def on_update(self, step: Step) -> None:
        current, previous = self.turns(step)
        step.update = add(current, previous, alpha=-self.beta0 / (1 + self.beta0), out=step.spare())
        step.correction1 = 1 - self.beta1**step.t
        step.gain = 1 / step.correction1 * ((1 + self.beta0) / self.noise)


def chosen(condition: Tensor, xs: Tensors, ys: Tensors) -> Tensors:
    """Return copies of `xs` if `condition` holds, else of `ys`. The host does not read `condition`."""
    return [torch.where(condition, x, y) for x, y in zip(xs, ys, strict=True)]
