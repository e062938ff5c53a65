"""The optimizer class: it checks, allocates and gathers; the arithmetic is in `components`."""

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ranger21.optim import components as c

STABLE_DECAY = (None, "layer", "global")


class Ranger21(Optimizer):
    """Ranger21 (Wright and Demeure 2021, Algorithm 4), without its schedule, which is `explore_exploit`.

    Every ingredient can be switched off; with all of them off the step is AdamW's. Each argument can be set for a
    parameter group. A parameter without a gradient is left wholly alone: its own count of steps, which drives bias
    correction, the turn of the two moments and lookahead, does not advance. `p.grad` is never written to.

    Args:
        params: tensors, or parameter groups as in every torch optimizer.
        lr: learning rate eta, at least 0. The paper's is 3e-3.
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

    State, for each parameter: `step` (int); `exp_avg`, or `exp_avg_odd` and `exp_avg_even` with `pnm`; `exp_avg_sq`;
    `max_exp_avg_sq` with `pnm`; `slow` with lookahead. Tensors of the parameter's shape, dtype and memory format.

    Raises:
        ValueError: an argument out of its range, naming it.
        RuntimeError: a sparse or complex gradient, at `step`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
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
    ) -> None:
        defaults = {name: value for name, value in locals().items() if name not in ("self", "params", "__class__")}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as in every torch optimizer; its arguments are checked like the constructor's."""
        super().add_param_group(param_group)
        try:
            check_arguments(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step. `closure`, if given, is called with gradients enabled, and what it returns is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        ready = [
            (p, group, self.state[p]) for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        for param, _, _ in ready:
            check_gradient(param)
        for param, group, state in ready:
            update_moments(param, group, state)
        mean_second = None
        if any(group["stable_decay"] == "global" and group["weight_decay"] for _, group, _ in ready):
            mean_second = global_mean_second(ready)
        for param, group, state in ready:
            update_parameter(param, group, state, mean_second)
        return loss


def check_arguments(group: dict[str, Any]) -> None:
    """Raises a ValueError that names the first argument of `group` which is out of its range."""

    def require(name: str, condition: bool, what: str) -> None:
        if not condition:
            raise ValueError(f"Ranger21: {name} = {group[name]!r} must be {what}.")

    def is_number(value: Any) -> bool:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)

    for name in ("lr", "pnm_beta", "eps", "weight_decay"):
        require(name, is_number(group[name]) and group[name] >= 0, "a number of at least 0")
    betas = group["betas"]
    pair = isinstance(betas, (tuple, list)) and len(betas) == 2
    require("betas", pair and all(is_number(b) and 0 <= b < 1 for b in betas), "two numbers in [0, 1)")
    clipping = group["agc_clipping"]
    require("agc_clipping", clipping is None or (is_number(clipping) and clipping > 0), "a number above 0, or None")
    require("agc_eps", is_number(group["agc_eps"]) and group["agc_eps"] > 0, "a number above 0")
    for name in ("centralize", "pnm", "norm_loss"):
        require(name, isinstance(group[name], bool), "True or False")
    require("stable_decay", group["stable_decay"] in STABLE_DECAY, "'layer', 'global' or None")
    k = group["lookahead_k"]
    require("lookahead_k", isinstance(k, int) and not isinstance(k, bool) and k >= 0, "an integer of at least 0")
    beta = group["lookahead_beta"]
    require("lookahead_beta", is_number(beta) and 0 <= beta < 1, "a number in [0, 1)")


def check_gradient(param: Tensor) -> None:
    """Raises a RuntimeError if the gradient is one that the algorithm is not defined for."""
    assert param.grad is not None
    if param.grad.layout != torch.strided:
        raise RuntimeError("Ranger21 does not support sparse gradients; use a dense layer (sparse=False).")
    if torch.is_complex(param):
        raise RuntimeError("Ranger21 does not support complex parameters; optimize torch.view_as_real of them.")


def buffer(state: dict[str, Any], name: str, param: Tensor) -> Tensor:
    """The state tensor `name`, made of zeros on first use."""
    if name not in state:
        state[name] = torch.zeros_like(param, memory_format=torch.preserve_format)
    return state[name]


def first_moments(param: Tensor, state: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The two first moments of positive-negative momentum: (m_t, whose turn it is, and m_{t-1})."""
    odd, even = buffer(state, "exp_avg_odd", param), buffer(state, "exp_avg_even", param)
    return (odd, even) if state["step"] % 2 else (even, odd)


def second_moment_name(group: dict[str, Any]) -> str:
    """Which second moment divides the update: the running maximum belongs to positive-negative momentum."""
    return "max_exp_avg_sq" if group["pnm"] else "exp_avg_sq"


def update_moments(param: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
    """Items 1 to 4 of the algorithm: the gradient is clipped and centralized, the moments take it in."""
    if group["lookahead_k"] and "slow" not in state:
        state["slow"] = param.detach().clone(memory_format=torch.preserve_format)
    state["step"] = state.get("step", 0) + 1
    beta1, beta2 = group["betas"]
    grad: Tensor = param.grad  # type: ignore[assignment]
    if group["agc_clipping"] is not None:
        grad = c.agc(grad, param, group["agc_clipping"], group["agc_eps"])
    if group["centralize"]:
        grad = c.centralize(grad)
    if group["pnm"]:
        c.pnm_moment_(first_moments(param, state)[0], grad, beta1)
    else:
        c.first_moment_(buffer(state, "exp_avg", param), grad, beta1)
    exp_avg_sq = c.second_moment_(buffer(state, "exp_avg_sq", param), grad, beta2)
    if group["pnm"]:
        c.running_max_(buffer(state, "max_exp_avg_sq", param), exp_avg_sq)


def global_mean_second(ready: list[tuple[Tensor, dict[str, Any], dict[str, Any]]]) -> Tensor:
    """Mean of v_hat over every element of every parameter in `ready`, a tensor of no axes on the first one's device."""
    device = ready[0][0].device
    total: Tensor | float = 0.0
    for _, group, state in ready:
        second = state[second_moment_name(group)]
        dtype = torch.float32 if second.dtype in (torch.bfloat16, torch.float16) else second.dtype
        total = total + second.sum(dtype=dtype).to(device) / (1 - group["betas"][1] ** state["step"])
    return torch.as_tensor(total) / max(1, sum(p.numel() for p, _, _ in ready))


def update_parameter(
    param: Tensor, group: dict[str, Any], state: dict[str, Any], mean_second: Tensor | None = None
) -> None:
    """Items 5, 7 and 8 of the algorithm: decay, the update itself, lookahead. Item 6, the schedule, is in `lr`."""
    t, lr = state["step"], group["lr"]
    beta1, beta2 = group["betas"]
    second, correction = state[second_moment_name(group)], 1 - beta2**t
    direction = c.pnm_direction(*first_moments(param, state), group["pnm_beta"]) if group["pnm"] else state["exp_avg"]
    if group["weight_decay"]:
        pull: Tensor | float = min(1.0, lr * group["weight_decay"])
        if group["stable_decay"] is not None:
            mean = (
                second.mean() / correction if mean_second is None or group["stable_decay"] == "layer" else mean_second
            )
            pull = c.stable_pull(mean.to(param.device), lr, group["weight_decay"], group["eps"]).to(param.dtype)
        c.decay_(param, pull, group["norm_loss"])
    param.addcdiv_(direction, c.denominator(second, correction, group["eps"]), value=-lr / (1 - beta1**t))
    if group["lookahead_k"] and t % group["lookahead_k"] == 0:
        c.lookahead_(param, state["slow"], group["lookahead_beta"])
