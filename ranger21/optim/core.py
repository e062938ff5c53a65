"""What a chain does to a list of tensors: `observe` takes the gradients in, `move` steps the weights.

Both are arithmetic on tensors and on numbers made beforehand, and nothing else, so that they can be compiled as they
stand. Between the two comes what is small or needs all parameters: the totals, and `shrinkage`, the decay.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ranger21.optim import components as c
from ranger21.optim import parts as p
from ranger21.optim.components import Number, Tensors
from ranger21.optim.parts import Part

State = dict[str, Tensors]
Scratch = tuple[Tensors | None, Tensors | None]  # memory like the parameters', to be written over; None: take new


class Numbers(NamedTuple):
    """What changes from step to step: floats, or tensors of no axes where the functions are compiled."""

    lr: Number
    decay: Number  # lr weight_decay
    pull: Number  # the same, at most 1: how far plain decay takes a weight to its target
    gain: Number  # of the update: bias corrections, rectification, the size of positive-negative momentum
    eps: Number  # to be added to the root of the second moment as it is stored
    correction2: Number  # 1 - beta2^t
    bias_ratio: Number  # Paratrooper's b_t: sqrt(1 - beta2^t) / (1 - beta1^t)


@functools.lru_cache(maxsize=8)
def numbers(parts: tuple[Part, ...], step: int, lr: float, weight_decay: float) -> tuple[Numbers, bool]:
    """The numbers of a step, and whether the second moment divides the update (RAdam's does not at first)."""
    gain, eps, correction1, correction2, divides = 1.0, 0.0, 1.0, 1.0, False
    for part in parts:
        if isinstance(part, p.FirstMoment | p.PNM):
            correction1 = 1 - part.beta1**step
            gain /= correction1
        if isinstance(part, p.PNM):
            gain *= (1 + part.beta0) / part.noise
        if isinstance(part, p.SecondMoment):
            second, correction2, divides = part, 1 - part.beta2**step, True
    root = math.sqrt(correction2)
    if divides:
        eps = second.eps
    if any(part.name == "rectify" for part in parts):
        factor = rectification(step, second.beta2)
        divides = factor is not None
        if factor is not None:
            gain *= factor * (root if second.softplus is None else 1.0)
    elif divides and second.softplus is None:
        eps, gain = eps * root, gain * root
    decay = lr * weight_decay
    return Numbers(lr, decay, min(1.0, decay), gain, eps, correction2, root / correction1), divides


def rectification(step: int, beta2: float) -> float | None:
    """RAdam's r_t (Liu et al. 2020, Algorithm 2); None as long as the variance that it corrects does not exist."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / (1 - beta2**step)
    if length <= 5:
        return None
    return math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))


class Flow:
    """Tensors on their way through a chain. `stream` is what passes: the gradient, then the update."""

    def __init__(
        self,
        parts: tuple[Part, ...],
        params: Tensors,
        stream: Tensors,
        state: State,
        now: Numbers,
        weight_decay: float,
        scratch: Scratch,
    ) -> None:
        self.parts, self.params, self.stream, self.state = parts, params, stream, state
        self.scratch = scratch
        self.now, self.weight_decay = now, weight_decay
        self.gain: Number | None = None  # by which `stream` has yet to be multiplied
        self.divisors: Tensors | None = None  # and divided
        self.known: Tensors | None = (
            None  # of the weights' units: their norms; where it is compiled, the norms' squares
        )

    def norms(self) -> Tensors:
        """The norms of the weights' units before the step."""
        if torch.compiler.is_compiling():
            self.known = self.known or c.unit_squares(self.params)
            return [x.sqrt() for x in self.known]
        self.known = self.known or c.unit_norms(self.params)
        return self.known

    def settle(self) -> None:
        """Carries out the division and the multiplication that are due."""
        if self.divisors is not None:
            self.stream = list(torch._foreach_div(self.stream, self.divisors))
        if self.gain is not None:
            self.stream = list(torch._foreach_mul(self.stream, self.gain))
        self.divisors = self.gain = None


def second(state: State) -> Tensors:
    """The second moment that divides."""
    return state["max_exp_avg_sq"] if "max_exp_avg_sq" in state else state["exp_avg_sq"]


def observe(
    parts: tuple[Part, ...],
    params: Tensors,
    grads: Tensors,
    state: State,
    now: Numbers,
    weight_decay: float,
    scratch: Scratch = (None, None),
) -> tuple[Tensors | None, Tensors | None]:
    """The parts that act on the gradient, the moments among them.

    Returns the gradient, where no first moment has it, and what is known of the norms of the weights' units: they
    themselves, or, where this is compiled, their squares, whose roots would keep the compiler from fusing the rest.
    """
    flow = Flow(parts, params, grads, state, now, weight_decay, scratch)
    for part in p.split(parts)[0]:
        ACTIONS[part.name](part, flow)
    return flow.stream if p.streams(parts) else None, flow.known


def shrinkage(
    parts: tuple[Part, ...],
    params: Tensors,
    norms: Tensors | None,
    totals: Tensors | None,
    mean: Tensor | None,
    now: Numbers,
) -> Tensors | Number | None:
    """What decay multiplies the weights by, for every unit, tensor or all alike; None: there is no decay.

    `norms`: of the weights' units, if they are known. `totals`: of the second moment, for stable decay.
    `mean`: of v_hat over all parameters, for the global kind.
    """
    part = next((part for part in parts if part.place == p.DECAY), None)
    if part is None:
        return None
    means = None
    if totals is not None:
        means = c.means(totals, params) / now.correction2 if mean is None else mean.expand(len(params))
    return DECAYS[part.name](part, parts, params, norms, means, now)


def move(
    parts: tuple[Part, ...],
    params: Tensors,
    stream: Tensors | None,
    state: State,
    now: Numbers,
    weight_decay: float,
    divides: bool,
    factors: Tensors | Number | None,
    scratch: Scratch = (None, None),
) -> None:
    """The parts that act on the update, and the step; not lookahead, which does not come with every step.

    `divides`: whether the second moment does. `factors`: the decay, from `shrinkage`.
    """
    flow = Flow(parts, params, stream or [], state, now, weight_decay, scratch)
    for part in parts:
        if part.name == "first_moment":
            flow.stream = state["exp_avg"]
        if isinstance(part, p.PNM):
            flow.stream = c.pnm_direction(state["current"], state["previous"], part.beta0, scratch[0])
    flow.gain = now.gain
    if divides:
        softplus = next(part.softplus for part in parts if isinstance(part, p.SecondMoment))
        if softplus is None:
            flow.divisors = c.denominators(second(state), now.eps, scratch[1])
        else:
            flow.divisors = c.softplus_denominators(second(state), now.correction2, now.eps, softplus)
    for part in p.split(parts)[1]:
        if part.place < p.DECAY:
            ACTIONS[part.name](part, flow)
    if factors is not None:
        torch._foreach_mul_(params, factors)
    c.descend_(params, flow.stream, flow.divisors, now.lr if flow.gain is None else now.lr * flow.gain)


# One function for each part


def agc(part: p.AGC, flow: Flow) -> None:
    flow.stream = c.agc(flow.stream, flow.norms(), part.clipping, part.eps, flow.scratch[0])


def centralize(part: p.Centralize, flow: Flow) -> None:
    flow.stream = c.centralize(flow.stream, in_place=flow.stream is flow.scratch[0])


def normalize(part: p.Normalize, flow: Flow) -> None:
    flow.stream = c.normalize(flow.stream, part.eps)


def first_moment(part: p.FirstMoment, flow: Flow) -> None:
    c.first_moment_(flow.state["exp_avg"], flow.stream, part.beta1)


def pnm(part: p.PNM, flow: Flow) -> None:
    c.pnm_moment_(flow.state["current"], flow.stream, part.beta1)


def second_moment(part: p.SecondMoment, flow: Flow) -> None:
    c.second_moment_(flow.state["exp_avg_sq"], flow.stream, part.beta2)


def l2(part: p.L2, flow: Flow) -> None:
    if flow.weight_decay:
        flow.settle()
        flow.stream = list(torch._foreach_add(flow.stream, flow.params, alpha=flow.weight_decay))


def trust_ratio(part: p.TrustRatio, flow: Flow) -> None:
    flow.settle()
    ratios = c.trust_ratios(flow.params, flow.stream, flow.now.lr if part.of_step else 1.0, part.coefficient, part.eps)
    if part.clamp == "ten":
        ratios = ratios.clamp(max=10.0)
    if part.clamp == "paratrooper":
        ratios = torch.minimum(1 / (ratios * flow.now.bias_ratio), ratios).clamp(min=1.0)
    flow.stream = list(torch._foreach_mul(flow.stream, list(ratios.unbind())))


def rectify(part: p.Rectify, flow: Flow) -> None:
    """It is in the numbers."""


def decay(
    part: p.Decay,
    parts: tuple[Part, ...],
    params: Tensors,
    norms: Tensors | None,
    means: Tensor | None,
    now: Numbers,
) -> Tensors | Number | None:
    if not now.decay:
        return None
    pulls: Tensors | Number = now.pull
    if means is not None:
        eps = next(other.eps for other in parts if isinstance(other, p.SecondMoment))
        pulls = list(c.stable_pulls(means, now.decay, eps).unbind())
    if part.norm_loss:
        return c.norm_loss_factors(c.unit_norms(params) if norms is None else norms, pulls)
    return c.decay_factors(pulls)


ACTIONS: dict[str, Callable[[Any, Flow], None]] = {
    "agc": agc,
    "centralize": centralize,
    "normalize": normalize,
    "first_moment": first_moment,
    "pnm": pnm,
    "second_moment": second_moment,
    "rectify": rectify,
    "l2": l2,
    "trust_ratio": trust_ratio,
}
DECAYS: dict[str, Callable[..., Tensors | Number | None]] = {"decay": decay}
