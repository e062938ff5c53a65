"""The ingredients of Ranger21, one small function each, in the order of the paper's Algorithm 4.

Letters are the paper's: theta is a parameter tensor, g its gradient, t = 1, 2, ... the number of steps that this
parameter has taken. A *unit* is everything but the first axis of a tensor of two or more axes (an output channel of
a convolution, a row of a matrix), and the whole of a tensor of fewer axes. Functions whose name ends in `_` change
their first argument in place, as torch's do; the others leave their arguments alone. Nothing here asks the device
for a value, so the host never waits.
"""

import math

import torch
from torch import Tensor


def unit_axes(x: Tensor) -> tuple[int, ...]:
    """The axes that make up a unit; none for a tensor of fewer than two axes (its unit is all of it)."""
    return tuple(range(1, x.ndim)) if x.ndim >= 2 else ()


def unit_norm(x: Tensor) -> Tensor:
    """Euclidean norm of every unit, of a shape that broadcasts against `x`. Half precision is summed in float32."""
    dtype = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else None
    if x.ndim < 2:
        return torch.linalg.vector_norm(x, dtype=dtype).to(x.dtype)
    return torch.linalg.vector_norm(x, dim=unit_axes(x), keepdim=True, dtype=dtype).to(x.dtype)


def agc(grad: Tensor, param: Tensor, clipping: float, eps: float) -> Tensor:
    """Adaptive gradient clipping (Brock et al. 2021; Ranger21 section 2.2, equation 2).

    Shortens every unit of the gradient whose norm exceeds `clipping` (tau) times the norm of the unit's weights, the
    latter taken as at least `eps` so that a zero-initialised unit can leave zero.
    """
    norm = unit_norm(grad)
    longest = unit_norm(param).clamp_(min=eps).mul_(clipping)
    return grad * torch.where(norm > longest, longest / norm, 1.0)


def centralize(grad: Tensor) -> Tensor:
    """Gradient centralization (Yong et al. 2020; Ranger21 section 2.3, equation 3): every unit minus its mean.

    Deviation: a unit of one element, such as the gains of shape (C, 1, 1, 1) of a normalizer-free network, is left
    alone. Its gradient minus its own mean would be zero for ever.
    """
    if grad.ndim < 2 or grad.numel() <= grad.shape[0]:
        return grad
    return grad - grad.mean(dim=unit_axes(grad), keepdim=True)


def first_moment_(exp_avg: Tensor, grad: Tensor, beta1: float) -> Tensor:
    """Adam's first moment (Algorithm 1, line 4): m <- beta1 m + (1 - beta1) g."""
    return exp_avg.lerp_(grad, 1 - beta1)


def pnm_moment_(current: Tensor, grad: Tensor, beta1: float) -> Tensor:
    """Positive-negative momentum's first moment (Algorithm 2, line 1): m_t <- beta1^2 m_{t-2} + (1 - beta1^2) g.

    `current` holds m_{t-2}: of the two moments, the one whose turn it is.
    """
    return current.lerp_(grad, 1 - beta1**2)


def pnm_direction(current: Tensor, previous: Tensor, pnm_beta: float) -> Tensor:
    """(1 + beta0) m_t - beta0 m_{t-1}, over the norm of its weights (Algorithm 2, lines 2 and 6).

    The division by sqrt((1 + beta0)^2 + beta0^2) keeps the size of the noise, and so the learning rate, what it
    would be for a single moment (Xie et al. 2021).
    """
    size = math.hypot(1 + pnm_beta, pnm_beta)
    return torch.mul(current, (1 + pnm_beta) / size).add_(previous, alpha=-pnm_beta / size)


def second_moment_(exp_avg_sq: Tensor, grad: Tensor, beta2: float) -> Tensor:
    """Adam's second moment (Algorithm 1, line 6): v <- beta2 v + (1 - beta2) g^2."""
    return exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)


def running_max_(max_exp_avg_sq: Tensor, exp_avg_sq: Tensor) -> Tensor:
    """The largest second moment so far (Algorithm 2, line 4). It belongs to positive-negative momentum."""
    return torch.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)


def denominator(second: Tensor, bias_correction2: float, eps: float) -> Tensor:
    """sqrt(v_hat) + eps, with v_hat = `second` / `bias_correction2` (Algorithm 1, lines 7 and 8).

    Deviation: the paper's Algorithm 4 prints (1 - beta2) in line 15 where Algorithms 1 and 2 have the power
    (1 - beta2^t). The power is what is meant.
    """
    return second.sqrt().mul_(1 / math.sqrt(bias_correction2)).add_(eps)


def stable_pull(mean_second: Tensor, lr: float, weight_decay: float, eps: float) -> Tensor:
    """Stable weight decay (Xie et al. 2020; Ranger21 section 2.6, equation 6): lr weight_decay / sqrt(mean(v_hat)).

    `mean_second` is the mean of v_hat, a tensor of no axes. Deviations: the pull is at most 1, so that a weight is at
    most put on its target and never thrown past it, and 0 where sqrt(mean(v_hat)) <= eps. The printed line divides
    by zero at the first step of every network that starts with a zero gain (a residual block's last one, in timm).
    """
    root = mean_second.sqrt()
    return torch.where(root > eps, (lr * weight_decay / root).clamp_(max=1.0), 0.0)


def decay_(param: Tensor, pull: Tensor | float, norm_loss: bool) -> Tensor:
    """Weight decay towards zero, or towards unit norm with norm loss (Georgiou et al. 2021; section 2.5, equation 5).

    theta <- theta - pull (1 - 1 / ||theta||) theta, the norm being the unit's; without norm loss the bracket is 1.
    A unit of norm zero, or so small that 1 / ||theta|| overflows, has no direction to be pulled along and stays.
    Deviation: lines 18 and 19 of Algorithm 4, taken together, apply this with the wrong sign and the square of the
    learning rate.
    """
    if not norm_loss:
        return param.mul_(1 - pull)
    norm = unit_norm(param)
    return param.mul_(1 - pull * torch.where(norm >= torch.finfo(norm.dtype).tiny, 1 - 1 / norm, 0.0))


def lookahead_(param: Tensor, slow: Tensor, beta: float) -> Tensor:
    """Lookahead (Zhang et al. 2019; Ranger21 section 2.9, Algorithm 3): l <- beta l + (1 - beta) theta; theta <- l."""
    slow.lerp_(param, 1 - beta)
    return param.copy_(slow)
