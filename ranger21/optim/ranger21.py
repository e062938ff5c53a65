"""Ranger21: the chain that the paper's Algorithm 4 is."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from ranger21.optim.buckets import Group
from ranger21.optim.chain import Chain
from ranger21.optim.ingredients.agc import AGC
from ranger21.optim.ingredients.base import Ingredient, is_number
from ranger21.optim.ingredients.centralize import Centralize
from ranger21.optim.ingredients.decay import Decay
from ranger21.optim.ingredients.first_moment import FirstMoment
from ranger21.optim.ingredients.lookahead import Lookahead
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.ingredients.second_moment import SecondMoment
from ranger21.optim.recipe import Recipe
from ranger21.optim.switches import is_rate
from ranger21.optim.tensors import Tensors

STABLE_DECAY = (None, "layer", "global")


class Ranger21(Chain):
    """Ranger21 (Wright and Demeure 2021, Algorithm 4), without its schedule, which is `explore_exploit`.

    Every ingredient can be switched off; with all of them off the step is AdamW's. Each argument can be set for a
    parameter group. A parameter without a gradient is left wholly alone: its own count of steps, which drives bias
    correction, the turn of the two moments and lookahead, does not advance. `p.grad` is never written to.

    Args:
        params: tensors, or parameter groups as in every torch optimizer.
        lr: learning rate eta, at least 0; or a tensor of one element. The paper's is 3e-3.
        betas: (beta1, beta2), decay rates of the two moments, in [0, 1).
        pnm_beta: beta0, weight of the older first moment in positive-negative momentum, at least 0.
        eps: epsilon, at least 0: added to the root of the second moment; also the least root that stable decay takes.
        weight_decay: lambda, at least 0. 0 switches every form of decay off.
        agc_clipping: tau, the longest gradient relative to the weights, above 0. None: no clipping. The paper gives
            no figure; 1e-2 is its authors' code's and Brock et al.'s.
        agc_eps: the least norm of a unit's weights in the clipping, above 0.
        centralize: gradient centralization.
        pnm: positive-negative momentum with the running maximum of the second moment. False: Adam's moments.
        stable_decay: the scope over which the mean of v_hat is taken: "layer", each tensor by itself (the paper's);
            "global", all elements of all parameters that have a gradient in this step (Xie et al. 2020); None: AdamW's
            decay.
        norm_loss: decay towards unit norm in place of zero.
        lookahead_k: steps between two merges, counted for each parameter. 0: no lookahead.
        lookahead_beta: weight of the slow weights in a merge, in [0, 1).
        maximize: go up the gradient.
        foreach: False: one tensor at a time, which takes less memory on an accelerator. None: True, many at a time.
        fused: True: the whole step in three launches of Triton kernels, for float32 and half-precision tensors on a
            GPU. None: where that is possible.
        capturable: count steps on the device, and one tensor at a time, so that a CUDA graph can capture the step.
        differentiable: False; the step works in place.
        kahan_sum: for weights in bfloat16 and float16, keep what rounding takes from them (`kahan_comp` of the state)
            and add it at the next step. None: True. Their other state is in float32 in any case.

    State, for each parameter: `step` (int); `exp_avg`, or `exp_avg_odd` and `exp_avg_even` with `pnm`; `exp_avg_sq`;
    `max_exp_avg_sq` with `pnm`; `slow` with lookahead. Tensors of the parameter's shape, dtype and memory format.

    Clipping, centralization and norm loss see units whole, stable_decay="layer" tensors, "global" all parameters.
    DTensors (fully_shard, tensor parallelism) are whole. The first FullyShardedDataParallel is refused, and with
    "global" ZeroRedundancyOptimizer. An optimizer for each parameter changes what is "global".

    Raises:
        ValueError: an argument out of its range, naming it.
        RuntimeError: a sparse or complex gradient, at `step`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 3e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        pnm_beta: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
        agc_clipping: float | None = 1e-2,
        agc_eps: float = 1e-3,
        centralize: bool = True,
        pnm: bool = True,
        stable_decay: str | None = "layer",
        norm_loss: bool = True,
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
        super(Chain, self).__init__(params, defaults)

    def check(self, group: Group) -> None:
        """Raise a ValueError that names the first argument of `group` which is out of its range."""
        self.require(group, "lr", is_rate(group["lr"]), "a number of at least 0")
        for name in ("pnm_beta", "eps", "weight_decay"):
            self.require(group, name, is_number(group[name]) and group[name] >= 0, "a number of at least 0")
        betas = group["betas"]
        pair = isinstance(betas, (tuple, list)) and len(betas) == 2
        self.require(group, "betas", pair and all(is_number(b) and 0 <= b < 1 for b in betas), "two numbers in [0, 1)")
        clipping = group["agc_clipping"]
        fits = clipping is None or (is_number(clipping) and clipping > 0)
        self.require(group, "agc_clipping", fits, "a number above 0, or None")
        self.require(group, "agc_eps", is_number(group["agc_eps"]) and group["agc_eps"] > 0, "a number above 0")
        for name in ("centralize", "pnm", "norm_loss"):
            self.require(group, name, isinstance(group[name], bool), "True or False")
        self.require(group, "stable_decay", group["stable_decay"] in STABLE_DECAY, "'layer', 'global' or None")
        k = group["lookahead_k"]
        whole = isinstance(k, int) and not isinstance(k, bool)
        self.require(group, "lookahead_k", whole and k >= 0, "an integer of at least 0")
        beta = group["lookahead_beta"]
        self.require(group, "lookahead_beta", is_number(beta) and 0 <= beta < 1, "a number in [0, 1)")

    def recipes(self, group: Group) -> Iterator[tuple[Recipe, Tensors]]:
        """Yield Algorithm 4, less what is switched off."""
        names = ("pnm_beta", "eps", "agc_clipping", "agc_eps", "centralize", "pnm", "stable_decay", "norm_loss")
        lookahead = (group["lookahead_k"], group["lookahead_beta"])
        yield algorithm4(*group["betas"], *(group[name] for name in names), *lookahead), group["params"]


@functools.lru_cache(maxsize=64)
def algorithm4(
    beta1: float,
    beta2: float,
    beta0: float,
    eps: float,
    clipping: float | None,
    clipping_eps: float,
    centralize: bool,
    pnm: bool,
    stable: str | None,
    norm_loss: bool,
    k: int,
    beta: float,
) -> Recipe:
    """Return the chain of ingredients that the paper's Algorithm 4 is."""
    chain: list[Ingredient] = []
    if clipping is not None:
        chain.append(AGC(clipping, clipping_eps))
    if centralize:
        chain.append(Centralize())
    chain.append(PNM(beta1, beta0) if pnm else FirstMoment(beta1))
    chain.append(SecondMoment(beta2, eps, running_max=pnm))
    chain.append(Decay(stable, norm_loss))
    if k:
        chain.append(Lookahead(k, beta))
    return Recipe(tuple(chain))
