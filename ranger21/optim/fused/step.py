"""One optimization step by the Triton kernels, with the interface of `ranger21.optim.step.Step`."""

import math
from typing import Any

import torch
from torch import Tensor

from ranger21.optim.buckets import Group
from ranger21.optim.fused import operators  # noqa: F401  it registers torch.ops.ranger21
from ranger21.optim.fused.algorithm import Algorithm
from ranger21.optim.fused.tables import Tables, addresses, like
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.precision import KAHAN
from ranger21.optim.tensors import Tensors

State = dict[str, Any]
TINY = torch.finfo(torch.float32).tiny


def log(base: float) -> float:
    """Return the logarithm of a decay rate, or -100 for 0, which makes no difference in float32."""
    return math.log(base) if base > 0 else -100.0


def rate_is_on(device: torch.device, rate: float | Tensor) -> bool:
    """Return whether the kernels read the learning rate from a tensor on the device, without the host reading it."""
    return isinstance(rate, Tensor) and (rate.device.type != "cpu" or device.type == "cpu")


class FusedStep:
    """One step of parameters that share a group, device and dtype.

    Step counts are on the device and advanced by the kernels, so that a step whose gradients are not finite can be
    skipped without synchronizing with the host.

    Args:
        algorithm: The ingredients.
        tables: Tables of the group's parameters that have a state. Parameters without a gradient are skipped.
        states: The states of these parameters.
        group: The parameter group.
        shares: Whether the sum of v_hat is needed for a mean over all parameters of the optimizer.
        grad_scale: Divisor of the gradients, set by a gradient scaler.
        found_inf: Above 0 if a gradient is not finite, set by a gradient scaler.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        tables: Tables,
        states: list[State],
        group: Group,
        shares: bool,
        grad_scale: Tensor | None = None,
        found_inf: Tensor | None = None,
    ) -> None:
        self._algorithm, self._tables, self._group, self._shares = algorithm, tables, group, shares
        self.params = [param for param in tables.params if param.grad is not None]
        self.whole: dict[str, Tensor] = {}
        device, rate = tables.params[0].device, group["lr"]
        on_device = rate_is_on(device, rate)
        self._rate = rate.to(device, torch.float32).reshape(()) if on_device else None
        self._lr = 0.0 if on_device else float(rate)
        self._scale = None if grad_scale is None else grad_scale.to(device, torch.float32)
        self._found = None if found_inf is None else found_inf.to(device, torch.float32)
        decay = algorithm.decay if group["weight_decay"] else None
        self._decays, self._stable = decay is not None, decay.stable if decay else None
        self._norm_loss = bool(decay and decay.norm_loss)
        self._pnm = isinstance(algorithm.moment, PNM)
        self._locate(states)

    def _locate(self, states: list[State]) -> None:
        """Upload the addresses of the tensors. State with other strides than its parameter is copied to match first."""
        params, tables = self._tables.params, self._tables
        first = ("exp_avg_odd", "exp_avg_even") if self._pnm else ("exp_avg", "")
        names = ("step", *first, "exp_avg_sq", "max_exp_avg_sq", "slow", KAHAN)  # as ordered in kernels.py

        def places() -> list[int]:
            return sum((addresses(state.get(name) for state in states) for name in names), addresses(params))

        self._at, changed = tables.at.of(places())
        if changed:
            for param, state in zip(params, states, strict=True):
                state |= {name: like(state[name], param) for name in names[1:] if name in state}
            self._at, _ = tables.at.of(places())
        grads = [None if param.grad is None else like(param.grad, param) for param in params]
        self._grads = [grad for grad in grads if grad is not None]
        self._grads_at, _ = tables.grads.of(addresses(grads))
        self._states = [state for state, grad in zip(states, grads, strict=True) if grad is not None]
        self._kahan = KAHAN in self._states[0]

    def _kept(self, *names: str) -> Tensors:
        return [state[name] for name in names for state in self._states if name in state]

    def observe(self) -> None:
        """Update the moments from the gradients, and compute the scalars of the step."""
        one, tables, group = self._algorithm, self._tables, self._group
        moment, second, clip = one.moment, one.second, one.clipping
        weight = 1 - (moment.beta1**2 if self._pnm else moment.beta1)
        layer = self._stable == "layer"
        torch.ops.ranger21.observe(
            self.params,
            self._grads,
            self._kept("exp_avg", "exp_avg_odd", "exp_avg_even", "exp_avg_sq", "max_exp_avg_sq"),
            [self._at, self._grads_at, tables.rows, tables.shapes],
            [tables.norms, tables.sums],
            self._scale,
            self._found,
            [
                -1.0 if group["maximize"] else 1.0,
                *((clip.clipping, clip.eps) if clip else (0.0, 0.0)),
                *(weight, second.beta2, 1 - second.beta2, log(second.beta2)),
            ],
            [
                *(bool(clip), bool(one.centralize), self._pnm, second.running_max, self._norm_loss),
                *(layer or self._shares, self._kahan),
            ],
        )
        torch.ops.ranger21.settle(
            self._kept("step"),
            [self._at, self._grads_at, tables.shapes, tables.sums],
            [tables.numbers, tables.total],
            self._found,
            self._rate,
            self._lr,
            [
                (1 + moment.beta0) / moment.noise if isinstance(moment, PNM) else 1.0,
                *(second.eps, group["weight_decay"], log(moment.beta1), log(second.beta2)),
            ],
            [layer, self._shares],
        )

    def adds(self) -> dict[str, tuple[Tensor, int]]:
        """Return the sum of v_hat and its number of elements, as `Step.adds` does."""
        return {"v_hat": (self._tables.total, sum(param.numel() for param in self.params))}

    def move(self) -> None:
        """Update the weights."""
        one, tables = self._algorithm, self._tables
        moment, second, lookahead = one.moment, one.second, one.lookahead
        total = self.whole["v_hat"].float() if self._stable == "global" else tables.total
        older = moment.beta0 / (1 + moment.beta0) if isinstance(moment, PNM) else 0.0
        k, beta = (lookahead.k, lookahead.beta) if lookahead else (0, 0.0)
        largest = "max_exp_avg_sq" if second.running_max else "exp_avg_sq"
        torch.ops.ranger21.move(
            self.params,
            self._kept("slow", KAHAN),
            self._kept("exp_avg", "exp_avg_odd", "exp_avg_even", largest),
            [self._at, self._grads_at, tables.rows, tables.norms, tables.numbers, total],
            self._found,
            self._rate,
            self._lr,
            [older, second.eps, self._group["weight_decay"], 1 - beta, math.sqrt(TINY)],
            [
                *(self._pnm, second.running_max, self._decays, self._norm_loss),
                *(self._stable == "global", k, self._kahan),
            ],
        )
        torch.autograd.graph.increment_version(self.params)  # so that autograd detects the in-place change
