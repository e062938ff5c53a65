"""Lookahead."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ranger21.optim.ingredients.base import Ingredient, Place, argument
from ranger21.optim.ranges import LOOKAHEAD_BETA, LOOKAHEAD_K
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, copy_


@dataclass(frozen=True)
class LookaheadMerge(Ingredient):
    """Merge the weights with slow weights every `k` steps (Zhang et al. 2019; Ranger21 section 2.9, Algorithm 3).

    l <- beta l + (1 - beta) theta; theta <- l. The slow weights l start at the parameter's value before its first step.

    Attributes:
        k: Number of steps between merges, counted per parameter, at least 1.
        beta: Weight of the slow weights, in [0, 1).
    """

    name, place, role = "lookahead", Place.AFTER_THE_STEP, "lookahead"
    keeps = ("slow",)
    may_start_late = True
    k: int = argument(5, LOOKAHEAD_K, tried=(10,))
    beta: float = argument(0.5, LOOKAHEAD_BETA)

    def start(self, name: str, param: Tensor) -> Tensor:
        return param.detach().clone(memory_format=torch.preserve_format)

    def after(self, step: Step) -> None:
        now = step.t % self.k == 0
        if isinstance(now, Tensor):
            merged = torch._foreach_lerp(step.state["slow"], step.params, 1 - self.beta)
            for param, slow, merge in zip(step.params, step.state["slow"], merged, strict=True):
                slow.copy_(torch.where(now, merge, slow))
                param.copy_(torch.where(now, merge, param))
        elif now:
            merge_(step.params, step.state["slow"], self.beta)


def merge_(params: Tensors, slow: Tensors, beta: float) -> None:
    """Set slow <- beta slow + (1 - beta) params, then params <- slow, in place."""
    torch._foreach_lerp_(slow, params, 1 - beta)
    copy_(params, slow)
