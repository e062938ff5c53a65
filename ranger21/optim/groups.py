"""Parameter groups with and without weight decay."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ranger21.optim.tensors import has_wide_units


def decays(param: Tensor) -> bool:
    """Return whether a parameter is decayed by default: weights are; biases, norm scales and gains are not.

    Tensors with fewer than two axes or with single-element units are not decayed. The paper does not specify this;
    treating every optimizer alike keeps comparisons fair.
    """
    return has_wide_units(param)


def parameter_groups(
    params: nn.Module | Iterable[Tensor | tuple[str, Tensor]], weight_decay: float, decay_norm_and_bias: bool = False
) -> list[dict[str, Any]]:
    """Return the trainable parameters as two groups, with and without weight decay. Empty groups are omitted.

    Args:
        params: A module, its parameters, or its named parameters.
        weight_decay: Weight decay of the first group; the second group's is 0.
        decay_norm_and_bias: Whether to decay all parameters.
    """
    given = params.parameters() if isinstance(params, nn.Module) else params
    every = [p[1] if isinstance(p, tuple) else p for p in given]
    trained = [p for p in every if p.requires_grad]
    decayed = [p for p in trained if decay_norm_and_bias or decays(p)]
    known = {id(p) for p in decayed}
    others = [p for p in trained if id(p) not in known]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
