"""Which parameters are decayed."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ranger21.optim.tensors import has_wide_units


def decays(param: Tensor) -> bool:
    """Whether a parameter is decayed by default: weights are; biases, norm scales and gains are not.

    That is, tensors of fewer than two axes or of single-element units are left out. The paper does not say; leaving
    them out for every optimizer alike keeps comparisons fair.
    """
    return has_wide_units(param)


def parameter_groups(
    params: nn.Module | Iterable[Tensor], weight_decay: float, decay_norm_and_bias: bool = False
) -> list[dict[str, Any]]:
    """Return the parameters that are trained in two groups, decayed and not; one without parameters is left out.

    Args:
        params: a module, or its parameters.
        weight_decay: of the group that is decayed.
        decay_norm_and_bias: decay all.
    """
    trained = [p for p in (params.parameters() if isinstance(params, nn.Module) else params) if p.requires_grad]
    decayed = [p for p in trained if decay_norm_and_bias or decays(p)]
    known = {id(p) for p in decayed}
    others = [p for p in trained if id(p) not in known]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
