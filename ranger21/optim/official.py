"""The authors' released code (github lessw2020/Ranger21 at 1a96777, which is version 0.1.0 in the registry) as a chain.

The paper's numbers came from an early state of it, not from Algorithm 4. What it does otherwise is kept here on
purpose and said at each place; what is left out: its printing, its host synchronisations and its welded-in schedule,
which is `ranger21.optim.schedules.official`.
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
from ranger21.optim.ingredients.base import AT_LEAST_0, FRACTION, Ingredient, Place, argument
from ranger21.optim.ingredients.centralize import Centralize
from ranger21.optim.ingredients.lookahead import Lookahead
from ranger21.optim.ingredients.normalize import Normalize
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.ingredients.second_moment import SecondMoment
from ranger21.optim.recipe import Recipe
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, unit_axes

STATES = ("may2021", "july2021")
NORM_LOSS = 1e-4


def axis_norms(xs: Tensors) -> Tensors:
    """The authors' units: all of a tensor of fewer than two axes, axis 1 of two and three, else all but the first."""
    axes = {0: None, 1: None, 2: 1, 3: 1}
    return [torch.linalg.vector_norm(x, dim=axes.get(x.ndim, unit_axes(x)), keepdim=x.ndim > 1) for x in xs]


@dataclass(frozen=True)
class OfficialAGC(AGC):
    """Clipping with a gradient norm of at least 1e-6, and units that are different for tensors of three axes."""

    name = "official_agc"

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        longest = [n.clamp(min=self.eps) * self.clipping for n in axis_norms(step.params)]
        triples = zip(xs, axis_norms(xs), longest, strict=True)
        return [g * torch.where(n > most, most / n.clamp(min=1e-6), 1.0) for g, n, most in triples]


@dataclass(frozen=True)
class OfficialCentralize(Centralize):
    """Centralization of units of one element too, which zeroes their gradient for ever."""

    name = "official_centralize"

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        return [g - g.mean(dim=unit_axes(g), keepdim=True) if g.ndim > 1 else g for g in xs]


@dataclass(frozen=True)
class OfficialPNM(PNM):
    """beta0 is 1 whatever is asked for (a flag is used as the number), and the noise's normaliser is made of beta2."""

    beta0: float = argument(1.0, AT_LEAST_0)
    beta2: float = argument(0.999, FRACTION)

    @property
    def noise(self) -> float:
        return math.hypot(1 + self.beta2, self.beta2)


@dataclass(frozen=True)
class OfficialDecay(Ingredient):
    """Stable decay by the global mean, uncapped, and after it norm loss, on the result and whatever the decay."""

    name, place, role = "official_decay", Place.WEIGHTS, "decay"
    sees = "all parameters"
    eps: float = argument(1e-8, AT_LEAST_0)

    def wants(self, weight_decay: float) -> str:
        return "v_hat" if weight_decay else ""

    def on_weights(self, step: Step) -> None:
        roots = step.params[0].new_ones(len(step.params))
        if "v_hat" in step.whole:
            roots = step.whole["v_hat"].expand(len(step.params)).sqrt()
        kept = 1 - torch.where(roots > 0, step.lr * step.weight_decay / roots, 0.0)  # theirs divides by zero at first
        sizes = [size * k.abs() for size, k in zip(axis_norms(step.params), kept.unbind(), strict=True)]
        rate = step.lr * 2 * NORM_LOSS
        step.factors = [k * (1 - rate * (1 - 1 / (n + self.eps))) for n, k in zip(sizes, kept.unbind(), strict=True)]


class Ranger21Official(Chain):
    """The authors' released code, in one of two states; `step` reproduces its trajectories.

    How it differs from `Ranger21`, which is the paper's Algorithm 4: units, and a floor of 1e-6, in the clipping;
    centralization of single elements; beta0 = 1 with a normaliser made of beta2; no running maximum (it is computed and
    thrown away); decay and norm loss reach **the last parameter alone**, so that neither is in effect active. Steps are
    counted for each parameter, as everywhere here; theirs are the last one's, which is the same as long as all have
    gradients. It must be one optimizer for all parameters (ZeroRedundancyOptimizer is refused). A last parameter
    without a gradient is left alone; theirs decays it.

    Args:
        params: tensors, or one parameter group: theirs misplaces the decay of several in other ways still.
        lr, betas, eps, weight_decay, lookahead_k, lookahead_beta, agc_clipping, agc_eps: as in `Ranger21`.
        maximize, foreach, fused, capturable, differentiable, kahan_sum: as in `Ranger21`.
        state: "may2021", the closest that can be had to what the paper ran; or "july2021", its later defaults: the
            gradient is also divided by its standard deviation, and the denominator goes through softplus.

    Raises:
        ValueError: an argument out of its range, naming it; a second parameter group.
    """

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
        """Raise a ValueError that names the first argument of `group` which is out of its range."""
        if len(self.param_groups) > 1:
            raise ValueError("Ranger21Official: there can be one parameter group only.")
        if group["variant"] not in STATES:
            raise ValueError(f"Ranger21Official: state = {group['variant']!r} must be one of {', '.join(STATES)}.")
        super().check(group)

    def recipes(self, group: Group) -> Iterator[tuple[Recipe, Tensors]]:
        """Yield two chains: that of all parameters but the last, and the last one's, which has the decay."""
        beta1, beta2 = group["betas"]
        july = group["variant"] == "july2021"
        again: list[Ingredient] = [OfficialCentralize(), *([Normalize()] if july else [])]
        chain: list[Ingredient] = [OfficialAGC(group["agc_clipping"], group["agc_eps"]), *again]
        chain.append(SecondMoment(beta2, group["eps"], softplus=50.0 if july else None))
        chain += [*again, OfficialPNM(beta1, beta2=beta2)]
        end = [Lookahead(group["lookahead_k"], group["lookahead_beta"])] if group["lookahead_k"] else []
        yield Recipe((*chain, *end)), group["params"][:-1]
        yield Recipe((*chain, OfficialDecay(group["eps"]), *end)), group["params"][-1:]
