"""The authors' released code (github.com/lessw2020/Ranger21 at 1a96777, version 0.1.0 on PyPI) as a chain.

The paper's results were produced with an early version of that code, not with Algorithm 4. Its deviations from the
paper are reproduced deliberately and documented at each class below. Not reproduced: printing, host synchronization,
and the built-in schedule, which is available as `ranger21.optim.schedules.official`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ranger21.optim.buckets import Group
from ranger21.optim.chain import Chain
from ranger21.optim.ingredients.agc import AGC
from ranger21.optim.ingredients.base import Ingredient, Place, argument
from ranger21.optim.ingredients.centralize import Centralize
from ranger21.optim.ingredients.lookahead import LookaheadMerge
from ranger21.optim.ingredients.normalize import Normalize
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.ingredients.second_moment import SecondMoment
from ranger21.optim.ranges import BETA, EPS, OFFICIAL, PNM_BETA, STATES
from ranger21.optim.recipe import Recipe
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, unit_axes

NORM_LOSS = 1e-4


def axis_norms(xs: Tensors) -> Tensors:
    """Return norms over the authors' units.

    These are the whole tensor for fewer than two axes, axis 1 for two or three axes, otherwise all axes but the first.
    """
    axes = {0: None, 1: None, 2: 1, 3: 1}
    return [torch.linalg.vector_norm(x, dim=axes.get(x.ndim, unit_axes(x)), keepdim=x.ndim > 1) for x in xs]


@dataclass(frozen=True)
class OfficialAGC(AGC):
    """Gradient clipping that takes gradient norms as at least 1e-6 and uses the units of `axis_norms`."""

    name = "official_agc"

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        longest = [n.clamp(min=self.eps) * self.clipping for n in axis_norms(step.params)]
        triples = zip(xs, axis_norms(xs), longest, strict=True)
        return [g * torch.where(n > most, most / n.clamp(min=1e-6), 1.0) for g, n, most in triples]


@dataclass(frozen=True)
class OfficialCentralize(Centralize):
    """Gradient centralization that includes single-element units, whose gradient is therefore always zero."""

    name = "official_centralize"

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        return [g - g.mean(dim=unit_axes(g), keepdim=True) if g.ndim > 1 else g for g in xs]


@dataclass(frozen=True)
class OfficialPNM(PNM):
    """Positive-negative momentum with beta0 fixed at 1 (a flag is used as its value), normalized with beta2 instead."""

    beta0: float = argument(1.0, PNM_BETA)
    beta2: float = argument(0.999, BETA)

    @property
    def noise(self) -> float:
        return math.hypot(1 + self.beta2, self.beta2)


@dataclass(frozen=True)
class OfficialDecay(Ingredient):
    """Uncapped stable decay with the global mean, followed by norm loss on the result, even without weight decay."""

    name, place, role = "official_decay", Place.WEIGHTS, "decay"
    sees = "all parameters"
    eps: float = argument(1e-8, EPS)

    def wants(self, weight_decay: float) -> str:
        return "v_hat" if weight_decay else ""

    def on_weights(self, step: Step) -> None:
        roots = step.params[0].new_ones(len(step.params))
        if "v_hat" in step.whole:
            roots = step.whole["v_hat"].expand(len(step.params)).sqrt()
        kept = 1 - torch.where(
            roots > 0, step.lr * step.weight_decay / roots, 0.0
        )  # the authors' code divides by zero at first
        sizes = [size * k.abs() for size, k in zip(axis_norms(step.params), kept.unbind(), strict=True)]
        rate = step.lr * 2 * NORM_LOSS
        step.factors = [k * (1 - rate * (1 - 1 / (n + self.eps))) for n, k in zip(sizes, kept.unbind(), strict=True)]


class Ranger21Official(Chain):
    """Implement the authors' released code, in one of two versions, and reproduce its trajectories.

    It differs from `Ranger21`, the paper's Algorithm 4, as follows:

    - Clipping uses other units for tensors with three axes, and takes gradient norms as at least 1e-6.
    - Centralization includes single-element units.
    - Positive-negative momentum has beta0 = 1 and is normalized with beta2.
    - The running maximum of the second moment is computed but not used.
    - Weight decay and norm loss are applied to **the last parameter only**, so that in effect neither is active.

    This class differs from the authors' code in two ways. It counts steps per parameter, where theirs uses the last
    parameter's count; the two agree while all parameters have gradients. It skips a last parameter without a gradient,
    where theirs decays it. One instance must hold all parameters, so ZeroRedundancyOptimizer is refused.

    Args:
        params: Tensors, or a single parameter group. With several groups, the authors' code misapplies decay further.
        lr, betas, eps, weight_decay, lookahead_k, lookahead_beta, agc_clipping, agc_eps: As in `Ranger21`.
        maximize, foreach, fused, capturable, differentiable, kahan_sum: As in `Ranger21`.
        state: "may2021", the closest available version to the one used in the paper, or "july2021", its later
            defaults, which also divide the gradient by its standard deviation and pass the denominator through
            softplus.

    Raises:
        ValueError: If an argument is out of range (the message names it), or if there is a second parameter group.
    """

    ranges = OFFICIAL

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 3e-3,
        *,
        state: str = "may2021",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
        agc_clipping: float = 1e-2,
        agc_eps: float = 1e-3,
        lookahead_k: int = 5,
        lookahead_beta: float = 0.5,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        kahan_sum: bool | None = None,
    ) -> None:
        defaults = {name: value for name, value in locals().items() if name not in ("self", "params", "__class__")}
        defaults["variant"] = defaults.pop("state")
        super(Chain, self).__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise a ValueError that names the first argument of `group` that is out of range."""
        if len(self.param_groups) > 1:
            raise ValueError("Ranger21Official supports only one parameter group.")
        if group["variant"] not in STATES:
            raise ValueError(f"Ranger21Official: state = {group['variant']!r} must be one of {', '.join(STATES)}.")
        super().check(group)

    def recipes(self, group: Group) -> Iterator[tuple[Recipe, Tensors]]:
        """Yield two recipes: one for all parameters but the last, and one with decay for the last."""
        beta1, beta2 = group["betas"]
        july = group["variant"] == "july2021"
        again: list[Ingredient] = [OfficialCentralize(), *([Normalize()] if july else [])]
        chain: list[Ingredient] = [OfficialAGC(group["agc_clipping"], group["agc_eps"]), *again]
        chain.append(SecondMoment(beta2, group["eps"], softplus=50.0 if july else None))
        chain += [*again, OfficialPNM(beta1, beta2=beta2)]
        end = [LookaheadMerge(group["lookahead_k"], group["lookahead_beta"])] if group["lookahead_k"] else []
        yield Recipe((*chain, *end)), group["params"][:-1]
        yield Recipe((*chain, OfficialDecay(group["eps"]), *end)), group["params"][-1:]
