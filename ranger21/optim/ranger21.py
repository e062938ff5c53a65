"""Ranger21 (the paper's Algorithm 4), built as a chain of ingredients."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from ranger21.optim.buckets import Group
from ranger21.optim.chain import Chain
from ranger21.optim.ingredients.agc import AGC
from ranger21.optim.ingredients.base import Ingredient
from ranger21.optim.ingredients.centralize import Centralize
from ranger21.optim.ingredients.decay import Decay
from ranger21.optim.ingredients.first_moment import FirstMoment
from ranger21.optim.ingredients.lookahead import LookaheadMerge
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.ingredients.second_moment import SecondMoment
from ranger21.optim.ranges import RANGER21
from ranger21.optim.recipe import Recipe
from ranger21.optim.tensors import Tensors


class Ranger21(Chain):
    """Implement Ranger21 (Wright and Demeure 2021, Algorithm 4). Its schedule is separate: see `explore_exploit`.

    Every ingredient can be switched off; with all of them off, the step is AdamW's. Every argument can be set per
    parameter group. Parameters without a gradient are skipped: their step count, which drives bias correction, the
    alternation of the two first moments and lookahead, does not advance. `p.grad` is never modified.

    Args:
        params: Tensors, or parameter groups as in every torch optimizer.
        lr: Learning rate eta, at least 0, as a float or a one-element tensor. The paper uses 3e-3.
        betas: (beta1, beta2), the decay rates of the first and second moment, in [0, 1).
        pnm_beta: beta0, the weight of the older first moment in positive-negative momentum, at least 0.
        eps: epsilon, at least 0. Added to the square root of the second moment. Stable decay skips tensors whose root
            mean v_hat is at most eps.
        weight_decay: lambda, at least 0. 0 disables every form of decay.
        agc_clipping: tau, above 0: the largest gradient norm of a unit relative to the norm of its weights. None
            disables clipping. The paper gives no value; 1e-2 is used by its authors' code and by Brock et al. (2021).
        agc_eps: Lower bound of a unit's weight norm in the clipping, above 0.
        centralize: Whether to centralize gradients.
        pnm: Whether to use positive-negative momentum and the running maximum of the second moment. If False, both
            moments are Adam's.
        stable_decay: The elements over which stable decay averages v_hat: "layer" for each tensor separately (as in
            the paper), or "global" for all elements of all parameters that have a gradient in this step (Xie et al.
            2020). None selects AdamW's decay.
        norm_loss: Whether to decay towards unit norm instead of zero.
        lookahead_k: Number of steps between lookahead merges, counted per parameter. 0 disables lookahead.
        lookahead_beta: Weight of the slow weights in a merge, in [0, 1).
        maximize: Whether to maximize the objective instead of minimizing it.
        foreach: Whether to process many tensors in one operation. False processes one tensor at a time, which needs
            less memory on an accelerator. None means True.
        fused: Whether to run the step as three Triton kernel launches, for float32 and half-precision tensors on a
            GPU. None means True where that is possible and `foreach` is None.
        capturable: Whether the step can be captured in a CUDA graph: steps are counted on the device, and tensors are
            processed one at a time.
        differentiable: Must be False, because the step works in place.
        kahan_sum: Whether to store the rounding error of bfloat16 and float16 weights (state `kahan_comp`) and to add
            it at the next step. None means True. The rest of their state is in float32 either way.

    State per parameter: `step` (int; a tensor with `capturable` or in a fused step); `exp_avg`, or `exp_avg_odd` and
    `exp_avg_even` with `pnm`; `exp_avg_sq`; `max_exp_avg_sq` with `pnm`; `slow` with lookahead. Each tensor but
    `step` has the parameter's shape and memory format, and its dtype except in half precision.

    Sharding: clipping, centralization and norm loss need whole units, stable_decay="layer" needs whole tensors, and
    "global" needs all parameters. DTensors (`fully_shard`, tensor parallelism) meet all three. The older
    FullyShardedDataParallel is refused, and so is ZeroRedundancyOptimizer with "global". With one optimizer per
    parameter, "global" covers only that parameter.

    Raises:
        ValueError: If an argument is out of range; the message names it.
        RuntimeError: If `step` meets a sparse gradient or a complex parameter.
    """

    ranges = RANGER21

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

    def recipes(self, group: Group) -> Iterator[tuple[Recipe, Tensors]]:
        """Yield Algorithm 4 without the ingredients that are switched off."""
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
    """Return Algorithm 4 as a recipe, without the ingredients that the arguments switch off."""
    chain: list[Ingredient] = []
    if clipping is not None:
        chain.append(AGC(clipping, clipping_eps))
    if centralize:
        chain.append(Centralize())
    chain.append(PNM(beta1, beta0) if pnm else FirstMoment(beta1))
    chain.append(SecondMoment(beta2, eps, running_max=pnm))
    chain.append(Decay(stable, norm_loss))
    if k:
        chain.append(LookaheadMerge(k, beta))
    return Recipe(tuple(chain))
