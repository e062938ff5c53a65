"""The trust ratio of LARS and LAMB."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ranger21.optim.ingredients.base import GradientTransform, Ingredient, Place, argument
from ranger21.optim.ranges import ABOVE_0, AT_LEAST_0, SWITCH, one_of
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, mul, norms, root


@dataclass(frozen=True)
class TrustRatio(GradientTransform):
    """Multiply each tensor u by the trust ratio r = coefficient ||theta|| / (||u|| + eps) (You et al. 2017, 2020).

    Before the moments this is LARS, after them LAMB. The ratio is 1 if either norm is zero.

    Attributes:
        coefficient: Factor of the ratio, above 0.
        eps: Added to ||u||, at least 0.
        of_step: Multiply ||u|| by the learning rate, as in RangerLARS.
        clamp: None for no limits; "ten" to limit r to at most 10; "paratrooper" for max(1, min(1 / (r b), r)) with
            b = sqrt(1 - beta2^t) / (1 - beta1^t), which makes RangerLARS approach Ranger over time.
    """

    name, place, role = "trust_ratio", Place.ANYWHERE, "trust ratio"
    sees = "a tensor"
    coefficient: float = argument(1.0, ABOVE_0)
    eps: float = argument(0.0, AT_LEAST_0)
    of_step: bool = argument(False, SWITCH)
    clamp: str | None = argument(None, one_of("ten", "paratrooper", None))

    def check(self, chain: Sequence[Ingredient]) -> None:
        before = {other.role for other in chain[: chain.index(self)]}
        if self.clamp == "paratrooper" and not before >= {"first moment", "second moment"}:
            raise ValueError(
                "trust_ratio with clamp=paratrooper uses the bias corrections of both moments: put both before it."
            )

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        weights = torch.stack(norms(step.params))
        sizes = torch.stack(norms(xs)) * (step.lr if self.of_step else 1.0)
        ratios = torch.where((weights > 0) & (sizes > 0), self.coefficient * weights / (sizes + self.eps), 1.0)
        if self.clamp == "ten":
            ratios = ratios.clamp(max=10.0)
        if self.clamp == "paratrooper" and step.second is not None:
            bias_ratio = root(step.second.correction) / step.correction1
            ratios = torch.minimum(1 / (ratios * bias_ratio), ratios).clamp(min=1.0)
        return mul(xs, list(ratios.unbind()))
