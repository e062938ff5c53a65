"""Algorithm 4 of Wright and Demeure (2021) for one tensor, in the paper's notation, with its line numbers on the right.

This slow reference computes what `Ranger21` computes by default. Every fast path in this folder is tested against it,
and it is tested against an independent NumPy implementation. docs/optimizers.md shows the paper's lines beside it.
"""

from math import hypot
from typing import Any

import torch
from torch import Tensor


def step(
    θ: Tensor, g: Tensor, state: dict[str, Any], η: float, *, λ: float = 1e-4, β0: float = 0.9, β1: float = 0.9,
    β2: float = 0.999, β_lookahead: float = 0.5, ε: float = 1e-8, ε_clipping: float = 1e-3, τ: float = 1e-2, k: int = 5,
) -> Tensor:  # fmt: skip
    """Return the weights after one step.

    Args:
        θ: The weights before the step.
        g: Their gradient.
        state: The optimizer state of this tensor: an empty dictionary before the first step, updated by every step.
        η: The learning rate of this step, which is the base rate times `explore_exploit` (line 17).
        λ: Weight decay.
        β0: Weight of the older first moment in positive-negative momentum.
        β1, β2: Decay rates of the first and second moment.
        β_lookahead: Weight of the slow weights in a lookahead merge.
        ε: Added to the square root of the second moment; decay is skipped if the root mean v_hat is at most ε.
        ε_clipping: Lower bound of a row's weight norm in gradient clipping.
        τ: Largest norm of a gradient row relative to its weights.
        k: Number of steps between lookahead merges.
    """
    if not state:
        zeros = torch.zeros_like(θ)
        state |= {"t": 0, "m": zeros, "m_previous": zeros, "v": zeros, "v_max": zeros, "l": θ}  # ................ 1, 2
    t = state["t"] = state["t"] + 1  # ............................................................................... 3
    axes = tuple(range(1, θ.ndim)) or None  # a row is an output channel; a vector is a single row

    def norm(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=axes, keepdim=True)

    longest = τ * norm(θ).clamp(min=ε_clipping)
    g = torch.where(norm(g) > longest, longest / norm(g) * g, g)  # gradient clipping ........................... 5 to 9
    if θ.ndim >= 2 and θ[0].numel() > 1:  # a row of one element would never be trained
        g = g - g.mean(dim=axes, keepdim=True)  # gradient centralization ........................................... 10
    m = β1**2 * state["m_previous"] + (1 - β1**2) * g  # first moment: m_previous is m_{t-2} here ................... 11
    m_hat = ((1 + β0) * m - β0 * state["m"]) / (1 - β1**t)  # bias correction; printed without the power ............ 12
    v = β2 * state["v"] + (1 - β2) * g**2  # second moment .......................................................... 13
    v_max = torch.maximum(v, state["v_max"])  # ..................................................................... 14
    v_hat = v_max / (1 - β2**t)  # bias correction; printed without the power ....................................... 15
    u = m_hat / (hypot(1 + β0, β0) * (v_hat.sqrt() + ε))  # update vector ........................................... 16
    root = v_hat.mean().sqrt()
    c = torch.where(root > ε, η * λ / root, 0.0).clamp(max=1.0)  # never past the target; printed without the cap ... 18
    d = torch.where(norm(θ) > 0, c * (1 - 1 / norm(θ)) * θ, 0.0)  # stable decay towards norm 1 ..................... 18
    θ = θ - η * u - d  # printed with the wrong sign, and η twice in d .............................................. 19
    if t % k == 0:
        θ = state["l"] = torch.lerp(state["l"], θ, 1 - β_lookahead)  # lookahead .......................... 20 to 23
    state |= {"m": m, "m_previous": state["m"], "v": v, "v_max": v_max}
    return θ
