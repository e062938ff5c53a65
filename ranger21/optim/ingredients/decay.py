"""Decoupled weight decay, optionally stable and towards unit norm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ranger21.optim.ingredients.base import Ingredient, Place, argument
from ranger21.optim.ranges import STABLE_DECAY, SWITCH
from ranger21.optim.step import Step
from ranger21.optim.tensors import Number, Tensors, at_most_1, means


@dataclass(frozen=True)
class Decay(Ingredient):
    """Decoupled weight decay: theta <- (1 - c) theta with c = min(1, lr weight_decay).

    With both options this is equation 7 of Ranger21, line 18 of Algorithm 4.

    Attributes:
        stable: Divide c by sqrt(mean(v_hat)) (Xie et al. 2020; Ranger21 section 2.6, equation 6). The mean is over the
            tensor ("layer"), or over all elements of all parameters with a gradient in this step ("global").
        norm_loss: Decay towards unit norm instead of zero (Georgiou et al. 2021; Ranger21 section 2.5, equation 5).
    """

    name, place, role = "decay", Place.WEIGHTS, "decay"
    stable: str | None = argument(None, STABLE_DECAY)
    norm_loss: bool = argument(False, SWITCH)

    def check(self, chain: Sequence[Ingredient]) -> None:
        if self.stable and not any(other.role == "second moment" for other in chain):
            raise ValueError(
                "decay with `stable` divides by the second moment: put second_moment before it, or set stable=null."
            )

    @property
    def sees(self) -> str:
        stable = {"layer": "a tensor", "global": "all parameters"}
        return stable[self.stable] if self.stable else "a unit" if self.norm_loss else ""

    def wants(self, weight_decay: float) -> str:
        return "v_hat" if self.stable == "global" and weight_decay else ""

    def on_weights(self, step: Step) -> None:
        if not step.weight_decay or not (isinstance(step.lr, Tensor) or step.lr):
            return
        decay = step.lr * step.weight_decay
        pulls: Tensors | Number
        if not self.stable or step.second is None:
            pulls = at_most_1(decay)
        else:
            mean_v_hat = (
                step.whole["v_hat"].expand(len(step.params))
                if self.stable == "global"
                else means(step.second.values) / step.second.correction
            )
            pulls = list(stable_pulls(mean_v_hat, decay, step.second.eps).unbind())
        step.factors = norm_loss_factors(step.norms, pulls) if self.norm_loss else decay_factors(pulls)


def stable_pulls(mean_v_hat: Tensor, decay: Number, eps: float) -> Tensor:
    """Return lr weight_decay / sqrt(mean(v_hat)) for each tensor.

    Args:
        mean_v_hat: Mean of v_hat per tensor, one-dimensional.
        decay: lr weight_decay.
        eps: The eps of the second moment.

    Deviations from the paper: the value is at most 1, so that weights never move past their target, and 0 where
    sqrt(mean(v_hat)) <= eps. The paper's formula divides by zero in the first step of networks that have a gain
    initialized to zero, as timm's residual blocks do.
    """
    roots = mean_v_hat.sqrt()
    return torch.where(roots > eps, (decay / roots).clamp(max=1.0), 0.0)


def decay_factors(pulls: Tensors | Number) -> Tensors | Number:
    """Return 1 - pull."""
    if not isinstance(pulls, list):
        return 1.0 - pulls
    factors = torch._foreach_neg(pulls)
    torch._foreach_add_(factors, 1.0)
    return list(factors)


def norm_loss_factors(norms: Tensors, pulls: Tensors | Number) -> Tensors:
    """Return the factor of theta in theta - pull (1 - 1 / ||theta||) theta.

    Units with norm zero stay zero; the norm has a lower bound so that its reciprocal does not overflow. Deviation:
    together, lines 18 and 19 of Algorithm 4 apply this with the wrong sign and the square of the learning rate.
    """
    factors = torch._foreach_clamp_min(norms, math.sqrt(torch.finfo(norms[0].dtype).tiny))
    torch._foreach_reciprocal_(factors)
    torch._foreach_sub_(factors, 1.0)
    torch._foreach_mul_(factors, pulls)
    torch._foreach_add_(factors, 1.0)
    return list(factors)
