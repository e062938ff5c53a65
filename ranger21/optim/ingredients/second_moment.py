"""Adam's second moment, and the division of the update by its square root."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ranger21.optim.ingredients.base import Ingredient, Place, argument
from ranger21.optim.ranges import ABOVE_0, BETA, EPS, SWITCH, or_none
from ranger21.optim.step import Step
from ranger21.optim.tensors import Number, Tensors, root, sqrt, totals


@dataclass(frozen=True)
class SecondMoment(Ingredient):
    """Adam's second moment (Ranger21 Algorithm 1, lines 6 to 8).

    v <- beta2 v + (1 - beta2) g^2; v_hat = v / (1 - beta2^t); the update is divided by sqrt(v_hat) + eps.

    Attributes:
        beta2: Decay rate, in [0, 1).
        eps: Added to the divisor, at least 0.
        running_max: Use the largest v so far instead of v (Algorithm 2, line 4, part of positive-negative momentum).
        softplus: If set, replace the divisor x by log(1 + exp(b x)) / b, where b is this value, above 0 (Tong et al.
            2019; the authors' code).
    """

    name, place, role = "second_moment", Place.SECOND_MOMENT, "second moment"
    beta2: float = argument(0.999, BETA, tried=(0.99,))
    eps: float = argument(1e-8, EPS)
    running_max: bool = argument(False, SWITCH)
    softplus: float | None = argument(None, or_none(ABOVE_0))

    @property
    def keeps(self) -> tuple[str, ...]:
        return ("exp_avg_sq", "max_exp_avg_sq") if self.running_max else ("exp_avg_sq",)

    def on_gradient(self, step: Step) -> None:
        v, g = step.state["exp_avg_sq"], step.gradient
        torch._foreach_mul_(v, self.beta2)
        torch._foreach_addcmul_(v, g, g, 1 - self.beta2)
        if self.running_max:
            torch._foreach_maximum_(step.state["max_exp_avg_sq"], v)
        step.second = RootDivision(self, self.eps, step.state[self.keeps[-1]], 1 - self.beta2**step.t)

    def on_update(self, step: Step) -> None:
        step.division = step.second

    def adds(self, step: Step) -> dict[str, tuple[Tensor, int]]:
        assert step.second is not None
        total = torch.stack(totals(step.second.values)).sum() / step.second.correction
        return {"v_hat": (total, sum(param.numel() for param in step.params))}


@dataclass
class RootDivision:
    """The division of an update by the square root of the second moment, v_hat = values / correction.

    The square root is taken of `values`, as stored. So sqrt(1 - beta2^t) becomes a factor of eps and of the quotient.

    Attributes:
        moment: The ingredient.
        eps: The ingredient's `eps`.
        values: The state tensors that hold v.
        correction: 1 - beta2^t.
        rectification: The factor r_t of `rectify`, or None. With it, eps has no factor.
        divides: A device tensor that tells whether to divide at all; None to divide.
    """

    moment: SecondMoment
    eps: float
    values: Tensors
    correction: Number
    rectification: Number | None = None
    divides: Tensor | None = None

    @property
    def gain(self) -> Number:
        gain = root(self.correction) if self.moment.softplus is None else 1.0
        if self.rectification is not None:
            gain = self.rectification * gain
        return gain if self.divides is None else torch.where(self.divides, gain, 1.0)

    def divisors(self, out: Tensors | None) -> Tensors:
        if self.moment.softplus is not None:
            found = [softplus((v / self.correction).sqrt() + self.eps, beta=self.moment.softplus) for v in self.values]
        else:
            found = sqrt(self.values, out)
            eps = self.eps if self.rectification is not None else self.eps * root(self.correction)
            if self.eps == 0:  # elements whose gradients are 0, or underflow when squared, do not change
                found = [torch.where(x == 0, math.inf, x) for x in found]
            else:  # a list of tensors, unlike one tensor, does not synchronize with the device
                torch._foreach_add_(found, [eps] * len(found) if isinstance(eps, Tensor) else eps)
        return found if self.divides is None else [torch.where(self.divides, x, 1.0) for x in found]
