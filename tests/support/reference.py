"""A slow Ranger21 for the tests: Algorithm 4 of Wright and Demeure (2021) in float64, in the paper's notation.

The tests compare the fast optimizer with this one, which shares no code with it. Read it beside the paper.

    θ  parameter      g  gradient        m  first moments (two, used in turn)    v  second moment
    η  rate           λ  weight decay    β0 negative momentum                    l  lookahead's slow weights
    t  step count of one parameter       τ  clipping threshold                   c  strength of the decay
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

DEFAULTS = {
    "betas": (0.9, 0.999),
    "pnm_beta": 0.9,
    "eps": 1e-8,
    "weight_decay": 1e-4,
    "agc_clipping": 1e-2,
    "agc_eps": 1e-3,
    "centralize": True,
    "pnm": True,
    "stable_decay": "layer",
    "norm_loss": True,
    "lookahead_k": 5,
    "lookahead_beta": 0.5,
}


def explore_exploit(
    step: int, total_steps: int, beta2: float = 0.999, warmup: float = 0.22, warmdown: float = 0.28
) -> float:
    """Return the learning rate factor of Equation 10: a linear warm-up, a plateau, and a linear descent to zero."""
    t, t_max = step, total_steps
    t_warmup, t_warmdown = warmup * t_max, warmdown * t_max
    return min(1, max((1 - beta2) / 2 * t, t / t_warmup), (t_max - t) / t_warmdown)


def units_of(tensor: np.ndarray) -> list[np.ndarray]:
    """Return the tensor's units as vectors: one per index of the first axis, or the whole tensor below two axes."""
    return [row.reshape(-1).copy() for row in tensor] if tensor.ndim >= 2 else [tensor.reshape(-1).copy()]


def norm(x: np.ndarray) -> float:
    return math.sqrt(sum(float(e) ** 2 for e in x))


@dataclass
class Parameter:
    """A tensor as a list of units, with its optimizer state."""

    shape: tuple[int, ...]
    θ: list[np.ndarray]
    t: int = 0
    m: list[np.ndarray] = field(default_factory=list)
    m_previous: list[np.ndarray] = field(default_factory=list)
    v: list[np.ndarray] = field(default_factory=list)
    v_max: list[np.ndarray] = field(default_factory=list)
    l: list[np.ndarray] = field(default_factory=list)  # noqa: E741
    v_hat: list[np.ndarray] = field(default_factory=list)

    @classmethod
    def of(cls, tensor: np.ndarray) -> Parameter:
        θ = units_of(np.asarray(tensor, dtype=np.float64))
        zeros = [[np.zeros_like(unit) for unit in θ] for _ in range(5)]
        m, m_previous, v, v_max, v_hat = zeros
        l_0 = [unit.copy() for unit in θ]
        return cls(np.shape(tensor), θ, 0, m, m_previous, v, v_max, l_0, v_hat)

    def value(self) -> np.ndarray:
        return np.concatenate(self.θ).reshape(self.shape) if self.θ else np.zeros(self.shape)


def clip(g: np.ndarray, θ: np.ndarray, τ: float, ε: float) -> np.ndarray:
    """Clip the gradient of a unit adaptively (line 7)."""
    limit = τ * max(norm(θ), ε)
    return g * limit / norm(g) if norm(g) > limit else g


def moments(p: Parameter, i: int, g: np.ndarray, group: Mapping) -> np.ndarray:
    """Run lines 9 to 14 for unit i: update both moments, store the corrected second in `v_hat`, return the update u."""
    (β1, β2), β0, ε = group["betas"], group["pnm_beta"], group["eps"]
    if group["pnm"]:
        p.m[i], p.m_previous[i] = β1**2 * p.m_previous[i] + (1 - β1**2) * g, p.m[i]
        m_hat = ((1 + β0) * p.m[i] - β0 * p.m_previous[i]) / (1 - β1**p.t)
        noise = math.sqrt((1 + β0) ** 2 + β0**2)
    else:
        p.m[i] = β1 * p.m[i] + (1 - β1) * g
        m_hat = p.m[i] / (1 - β1**p.t)
        noise = 1.0
    p.v[i] = β2 * p.v[i] + (1 - β2) * g**2
    p.v_max[i] = np.maximum(p.v_max[i], p.v[i])
    p.v_hat[i] = (p.v_max[i] if group["pnm"] else p.v[i]) / (1 - β2**p.t)
    return m_hat / (noise * (np.sqrt(p.v_hat[i]) + ε))


def pull(η: float, mean_v_hat: float, group: Mapping) -> float:
    """Return the strength of the decay, from 0 (the unit does not change) to 1 (it is moved onto its target)."""
    λ, ε = group["weight_decay"], group["eps"]
    if group["stable_decay"] is None:
        return min(1.0, η * λ)
    root = math.sqrt(mean_v_hat)
    return min(1.0, η * λ / root) if root > ε else 0.0


def decayed(θ: np.ndarray, c: float, norm_loss: bool) -> np.ndarray:
    """Decay a unit towards norm 1 with norm loss, else towards 0. A unit of zeros does not change."""
    size = norm(θ)
    if size == 0:
        return θ
    return θ - c * (1 - 1 / size) * θ if norm_loss else θ - c * θ


class Reference:
    """The optimizer.

    A group is a list of arrays, or a mapping of `params` and those arguments that differ in that group. `step` takes
    the gradients, nested like the groups (None: no gradient), and one learning rate or one per group.
    """

    def __init__(self, groups: Sequence, **kwargs: Any) -> None:
        self.groups = []
        for group in groups:
            group = group if isinstance(group, Mapping) else {"params": group}
            parameters = [Parameter.of(tensor) for tensor in group["params"]]
            self.groups.append({**DEFAULTS, **kwargs, **group, "params": parameters})

    def values(self) -> list[list[np.ndarray]]:
        return [[p.value() for p in group["params"]] for group in self.groups]

    def step(self, grads: Sequence[Sequence[np.ndarray | None]], lr: float | Sequence[float]) -> None:
        rates = lr if isinstance(lr, Sequence) else [lr] * len(self.groups)
        moved = []
        for group, group_grads, η in zip(self.groups, grads, rates, strict=True):
            for p, grad in zip(group["params"], group_grads, strict=True):
                if grad is not None:
                    p.t += 1
                    moved.append((p, self.updates(p, grad, group), η, group))
        global_mean = self.mean([unit for p, *_ in moved for unit in p.v_hat])
        for p, u, η, group in moved:
            mean = global_mean if group["stable_decay"] == "global" else self.mean(p.v_hat)
            c = pull(η, mean, group)
            for i in range(len(p.θ)):
                p.θ[i] = decayed(p.θ[i], c, group["norm_loss"]) - η * u[i]
            self.lookahead(p, group)

    @staticmethod
    def updates(p: Parameter, grad: np.ndarray, group: Mapping) -> list[np.ndarray]:
        u = []
        for i, g in enumerate(units_of(np.asarray(grad, dtype=np.float64))):
            if group["agc_clipping"] is not None:
                g = clip(g, p.θ[i], group["agc_clipping"], group["agc_eps"])
            if group["centralize"] and len(p.shape) >= 2 and len(g) > 1:
                g = g - sum(g) / len(g)
            u.append(moments(p, i, g, group))
        return u

    @staticmethod
    def mean(units: list[np.ndarray]) -> float:
        count = sum(len(unit) for unit in units)
        return sum(float(sum(unit)) for unit in units) / count if count else 0.0

    @staticmethod
    def lookahead(p: Parameter, group: Mapping) -> None:
        k, β = group["lookahead_k"], group["lookahead_beta"]
        if k == 0 or p.t % k != 0:
            return
        for i in range(len(p.θ)):
            p.l[i] = β * p.l[i] + (1 - β) * p.θ[i]
            p.θ[i] = p.l[i].copy()
