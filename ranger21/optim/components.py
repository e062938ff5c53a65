"""The arithmetic of every ingredient, one small function each, in the order of the paper's Algorithm 4.

Letters are the paper's: theta is a parameter tensor, g its gradient, t = 1, 2, ... the number of steps that this
parameter has taken. A *unit* is everything but the first axis of a tensor of two or more axes (an output channel of
a convolution, a row of a matrix), and the whole of a tensor of fewer axes.

Every argument that is a list holds one tensor for each parameter, all of one dtype and device, and either all of two
or more axes or all of fewer. Functions whose name ends in `_` change their first argument in place, as torch's do; the
others leave their arguments alone, and write to `out`, where it is given, in place of memory of their own. Nothing here
asks the device for a value, so the host never waits. A number that changes from step to step may be a float or, where
the functions are compiled, a tensor of no axes.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

Tensors = list[Tensor]
Number = float | Tensor


def unit_axes(x: Tensor) -> tuple[int, ...]:
    """The axes that make up a unit; none for a tensor of fewer than two axes (its unit is all of it)."""
    return tuple(range(1, x.ndim)) if x.ndim >= 2 else ()


def has_wide_units(x: Tensor) -> bool:
    """Whether a tensor has two or more axes and units of more than one element."""
    return x.ndim >= 2 and x.numel() > x.shape[0]


def _wider(x: Tensor) -> torch.dtype | None:
    """The dtype in which half precision is summed."""
    return torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else None


def unit_norms(xs: Tensors) -> Tensors:
    """Euclidean norm of every unit, of a shape that broadcasts against the tensor."""
    if xs[0].ndim < 2:
        return norms(xs)
    dtype = _wider(xs[0])
    return [torch.linalg.vector_norm(x, dim=unit_axes(x), keepdim=True, dtype=dtype).to(x.dtype) for x in xs]


def unit_squares(xs: Tensors) -> Tensors:
    """The squares of `unit_norms`."""
    return [x.square().sum(dim=unit_axes(x), keepdim=True, dtype=_wider(x)).to(x.dtype) for x in xs]


def norms(xs: Tensors) -> Tensors:
    """Euclidean norm of every tensor, of no axes."""
    found = torch._foreach_norm(xs, 2, dtype=_wider(xs[0]))
    return list(found) if found[0].dtype == xs[0].dtype else [x.to(xs[0].dtype) for x in found]


def agc(grads: Tensors, param_norms: Tensors, clipping: float, eps: float, out: Tensors | None = None) -> Tensors:
    """Adaptive gradient clipping (Brock et al. 2021; Ranger21 section 2.2, equation 2).

    Shortens every unit of the gradient whose norm exceeds `clipping` (tau) times the norm of the unit's weights,
    `param_norms`, the latter taken as at least `eps` so that a zero-initialised unit can leave zero.
    """
    factors = torch._foreach_clamp_min(param_norms, eps)
    torch._foreach_mul_(factors, clipping)
    torch._foreach_div_(factors, unit_norms(grads))  # infinite for a gradient of zero, and 1 after the next line
    torch._foreach_clamp_max_(factors, 1.0)
    if out is None:
        return list(torch._foreach_mul(grads, factors))
    for grad, factor, x in zip(grads, factors, out, strict=True):
        torch.mul(grad, factor, out=x)
    return out


def centralize(grads: Tensors, in_place: bool = False) -> Tensors:
    """Gradient centralization (Yong et al. 2020; Ranger21 section 2.3, equation 3): every unit minus its mean.

    Deviation: a unit of one element, such as the gains of shape (C, 1, 1, 1) of a normalizer-free network, is left
    alone. Its gradient minus its own mean would be zero for ever.
    """
    wide = [i for i, grad in enumerate(grads) if has_wide_units(grad)]
    if not wide:
        return grads
    chosen = [grads[i] for i in wide]
    unit_means = [grad.mean(dim=unit_axes(grad), keepdim=True) for grad in chosen]
    if in_place:
        torch._foreach_sub_(chosen, unit_means)
        return grads
    centred = torch._foreach_sub(chosen, unit_means)
    result = list(grads)
    for i, grad in zip(wide, centred, strict=True):
        result[i] = grad
    return result


def normalize(grads: Tensors, eps: float) -> Tensors:
    """Gradient normalisation (the authors' code of July 2021): over (its standard deviation over the tensor + eps).

    A tensor of two elements or fewer is left alone. The standard deviation is the unbiased one.
    """
    return [grad / (grad.std() + eps) if grad.numel() > 2 else grad for grad in grads]


def first_moment_(exp_avg: Tensors, grads: Tensors, beta1: float) -> None:
    """Adam's first moment (Algorithm 1, line 4): m <- beta1 m + (1 - beta1) g."""
    torch._foreach_lerp_(exp_avg, grads, 1 - beta1)


def pnm_moment_(current: Tensors, grads: Tensors, beta1: float) -> None:
    """Positive-negative momentum's first moment (Algorithm 2, line 1): m_t <- beta1^2 m_{t-2} + (1 - beta1^2) g.

    `current` holds m_{t-2}: of the two moments, the one whose turn it is.
    """
    torch._foreach_lerp_(current, grads, 1 - beta1**2)


def pnm_direction(current: Tensors, previous: Tensors, beta0: float, out: Tensors | None = None) -> Tensors:
    """m_t - beta0 / (1 + beta0) m_{t-1} (Algorithm 2, line 2, over 1 + beta0, which is a factor of the whole)."""
    alpha = -beta0 / (1 + beta0)
    if out is None:
        return list(torch._foreach_add(current, previous, alpha=alpha))
    for m, older, x in zip(current, previous, out, strict=True):
        torch.add(m, older, alpha=alpha, out=x)
    return out


def second_moment_(exp_avg_sq: Tensors, grads: Tensors, beta2: float) -> None:
    """Adam's second moment (Algorithm 1, line 6): v <- beta2 v + (1 - beta2) g^2."""
    torch._foreach_mul_(exp_avg_sq, beta2)
    torch._foreach_addcmul_(exp_avg_sq, grads, grads, 1 - beta2)


def running_max_(max_exp_avg_sq: Tensors, exp_avg_sq: Tensors) -> None:
    """The largest second moment so far (Algorithm 2, line 4). It belongs to positive-negative momentum."""
    torch._foreach_maximum_(max_exp_avg_sq, exp_avg_sq)


def denominators(second: Tensors, eps: Number, out: Tensors | None = None) -> Tensors:
    """sqrt(v) + eps (Algorithm 1, lines 7 and 8)."""
    if isinstance(eps, Tensor):
        return [v.sqrt() + eps for v in second]
    if out is None:
        out = list(torch._foreach_sqrt(second))
    else:
        for v, root in zip(second, out, strict=True):
            torch.sqrt(v, out=root)
    torch._foreach_add_(out, eps)
    return out


def softplus_denominators(second: Tensors, correction2: Number, eps: Number, beta: float) -> Tensors:
    """softplus(sqrt(v_hat) + eps) (Tong et al. 2019; the authors' code of July 2021)."""
    return [softplus((v / correction2).sqrt() + eps, beta=beta) for v in second]


def totals(xs: Tensors) -> Tensors:
    """The sum of every tensor of numbers not below 0, of no axes. Half precision is summed in float32."""
    if xs[0].ndim < 2:
        return list(torch._foreach_norm(xs, 1, dtype=_wider(xs[0])))
    return [x.sum(dim=unit_axes(x), dtype=_wider(x)).sum() for x in xs]


def means(sums: Tensors, xs: Tensors) -> Tensor:
    """The means of all tensors `xs` in one tensor, from their `totals`; 0 for an empty one."""
    return torch.stack(torch._foreach_div(sums, [max(1, x.numel()) for x in xs]))


def stable_pulls(means: Tensor, decay: Number, eps: float) -> Tensor:
    """Stable weight decay (Xie et al. 2020; Ranger21 section 2.6, equation 6): lr weight_decay / sqrt(mean(v_hat)).

    `means` has a mean of v_hat for each tensor, and so has the result; `decay` is lr weight_decay. Deviations: the
    pull is at most 1, so that a weight is at most put on its target and never thrown past it, and 0 where
    sqrt(mean(v_hat)) <= eps. The printed line divides by zero at the first step of every network that starts with a
    zero gain (a residual block's last one, in timm).
    """
    roots = means.sqrt()
    return torch.where(roots > eps, (decay / roots).clamp(max=1.0), 0.0)


def decay_factors(pulls: Tensors | Number) -> Tensors | Number:
    """Weight decay: the 1 - pull of theta <- (1 - pull) theta."""
    if not isinstance(pulls, list):
        return 1.0 - pulls
    factors = torch._foreach_neg(pulls)
    torch._foreach_add_(factors, 1.0)
    return list(factors)


def norm_loss_factors(param_norms: Tensors, pulls: Tensors | Number) -> Tensors:
    """Decay towards unit norm (Georgiou et al. 2021; section 2.5, equation 5): theta - pull (1 - 1 / ||theta||) theta.

    The result multiplies theta. A unit of norm zero has no direction to be pulled along and stays; 1 / ||theta|| is
    kept from overflowing.
    Deviation: lines 18 and 19 of Algorithm 4, taken together, apply this with the wrong sign and the square of the
    learning rate.
    """
    factors = torch._foreach_clamp_min(param_norms, math.sqrt(torch.finfo(param_norms[0].dtype).tiny))
    torch._foreach_reciprocal_(factors)
    torch._foreach_sub_(factors, 1.0)
    torch._foreach_mul_(factors, pulls)
    torch._foreach_add_(factors, 1.0)
    return list(factors)


def trust_ratios(params: Tensors, updates: Tensors, size: Number, coefficient: float, eps: float) -> Tensor:
    """`coefficient` ||theta|| / (||size u|| + eps) of every tensor (You et al. 2017, 2020); 1 where a norm is zero."""
    weights, steps = torch.stack(norms(params)), torch.stack(norms(updates)) * size
    return torch.where((weights > 0) & (steps > 0), coefficient * weights / (steps + eps), 1.0)


def descend_(params: Tensors, updates: Tensors, divisors: Tensors | None, size: Number) -> None:
    """theta <- theta - size u / d."""
    if isinstance(size, Tensor):
        for i, param in enumerate(params):
            param.sub_(size * (updates[i] if divisors is None else updates[i] / divisors[i]))
    elif divisors is None:
        torch._foreach_add_(params, updates, alpha=-size)
    else:
        torch._foreach_addcdiv_(params, updates, divisors, -size)


def lookahead_(params: Tensors, slow: Tensors, beta: float) -> None:
    """Lookahead (Zhang et al. 2019; Ranger21 section 2.9, Algorithm 3): l <- beta l + (1 - beta) theta; theta <- l."""
    torch._foreach_lerp_(slow, params, 1 - beta)
    torch._foreach_copy_(params, slow)
