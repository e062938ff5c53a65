"""Steps of half-precision weights: computed in float32, with Kahan summation of the rounding errors."""

from typing import Any

import torch
from torch import Tensor

from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors

HALF = (torch.bfloat16, torch.float16)
KAHAN = "kahan_comp"


def state_dtype(param: Tensor) -> torch.dtype:
    """Return the dtype of a parameter's state: float32 for half precision, otherwise the parameter's dtype."""
    return torch.float32 if param.dtype in HALF else param.dtype


class HalfStep(Step):
    """A step of half-precision weights, computed on float32 copies (Kahan 1965).

    The copies are the weights plus the stored rounding errors (`kahan_comp` in the state, if present). After the step
    they are rounded into the weights, and the new rounding errors are stored.
    """

    def __init__(self, recipe: Any, params: Tensors, grads: Tensors, *rest: Any, lost: Tensors, **others: Any) -> None:
        self.rounded, self.lost = params, lost
        wide = [param.float() for param in params]
        if lost:
            torch._foreach_add_(wide, [one.float() for one in lost])
        super().__init__(recipe, wide, [grad.float() for grad in grads], *rest, **others)

    def move(self) -> None:
        super().move()
        for rounded, wide in zip(self.rounded, self.params, strict=True):
            rounded.copy_(wide)
        for lost, rounded, wide in zip(self.lost, self.rounded, self.params, strict=False):
            lost.copy_(wide - rounded.float())
