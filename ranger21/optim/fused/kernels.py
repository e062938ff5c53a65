"""Triton kernels of the fused step: Algorithm 4 and its optional parts, for all tensors of a group in three launches.

1. `observe` updates the moments from the gradients (lines 5 to 14); one program per row.
2. `settle` counts the step and computes the scalars of each tensor (lines 3, 12, 15, 16, and the means of line 18);
   one program per tensor.
3. `move` updates the weights (lines 16 to 23); one program per row.

A row is a unit as defined in `ranger21.optim.tensors`. Arithmetic is in float32. Sums have a fixed order and use no
atomics, so results are bit-identical from run to run.

Arguments shared by the kernels:
    at: Addresses, int64 of shape (8, tensors), in the order of the constants below; 0 for tensors that a chain lacks.
    grads: Addresses of the gradients, int64; 0 for a tensor without a gradient, which is skipped.
    rows: Tensor index, offset, length and stride (in elements) of each row, int64 of shape (4, rows).
    shapes: Number of elements, first row, number of rows, and whether to centralize, for each tensor; int64 of shape
        (4, tensors + 1). The last column is for all tensors together.
    norms, sums: Weight norm and sum of v_hat of each row, float32.
    numbers: Step size, epsilon and decay pull of each tensor, float32 of shape (3, tensors).
    total: One float32: the sum of v_hat over all tensors; in `move`, the mean of v_hat over the optimizer.
    found: One float32, used with FINDS: above 0 if a gradient is not finite, which skips the step.
    lr: Learning rate, as a number, or as one float32 in memory with RATE_IS_TENSOR.
    DTYPE: Dtype of weights and gradients.
    KAHAN: Whether the rounding errors of the weights are stored.
"""

import torch
import triton
import triton.language as tl

WEIGHTS = tl.constexpr(0)
STEP = tl.constexpr(1)
FIRST = tl.constexpr(2)  # the first moment; with PNM, the one of odd steps
EVEN = tl.constexpr(3)
SECOND = tl.constexpr(4)
LARGEST = tl.constexpr(5)  # v_max
SLOW = tl.constexpr(6)
LOST = tl.constexpr(7)  # rounding errors of the weights
ALL = tl.constexpr(tl.PropagateNan.ALL)
INTERPRETED = not isinstance(tl.sum, triton.JITFunction)  # fixed when Triton is imported
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def address(at, which: tl.constexpr, tensors, tensor, DTYPE: tl.constexpr):
    """Return the pointer to a tensor, where `which` is one of the constants above."""
    return tl.load(at + which * tensors + tensor).to(tl.pointer_type(DTYPE))


@triton.jit
def steps(grads, found, tensor, FINDS: tl.constexpr):
    """Return whether to step a tensor."""
    there = tl.load(grads + tensor) != 0
    if FINDS:
        there = there & (tl.load(found) == 0)
    return there


@triton.jit
def one_less_power(log_base, exponent):
    """Return 1 - base^exponent without cancellation, given the logarithm of a base below 1."""
    x = tl.maximum(log_base * exponent, -100.0)
    near = x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6 * (1 + x / 7 * (1 + x / 8)))))))
    return tl.where(x > -0.5, -near, 1 - tl.exp(x))


@triton.jit
def pull_of(mean, decay, eps):
    """Return the pull of stable decay, eta lambda / sqrt(mean of v_hat): at most 1, and 0 where the root is <= eps."""
    root = tl.sqrt(mean)
    return tl.where(root > eps, decay / tl.maximum(root, decay, propagate_nan=ALL), 0.0)


@triton.jit
def row_of(grads, found, rows, row_count, FINDS: tl.constexpr):
    """Return this program's tensor, whether to step it, and the row's offset, length (0 if not stepped) and stride."""
    row = tl.program_id(0)
    tensor = tl.load(rows + row)
    stepped = steps(grads, found, tensor, FINDS)
    length = tl.where(stepped, tl.load(rows + 2 * row_count + row), 0)
    return tensor, stepped, tl.load(rows + row_count + row), length, tl.load(rows + 3 * row_count + row)


@triton.jit
def clip_and_mean(
    weights, lost, grad, length, stride, factor, clipping, clipping_eps,
    CLIPS: tl.constexpr, CENTRALIZES: tl.constexpr, NORMS: tl.constexpr, KAHAN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Return the norm of a row of weights, the factor that clips its gradient, and the mean of the clipped gradient."""
    weights_squared = tl.zeros((BLOCK,), tl.float32)
    grad_squared = tl.zeros((BLOCK,), tl.float32)
    grad_sum = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, length, BLOCK):
        i = start + tl.arange(0, BLOCK)
        if CLIPS or NORMS:
            theta = tl.load(weights + i * stride, mask=i < length, other=0.0).to(tl.float32)
            if KAHAN:
                theta += tl.load(lost + i * stride, mask=i < length, other=0.0).to(tl.float32)
            weights_squared += theta * theta
        if CLIPS or CENTRALIZES:
            g = tl.load(grad + i * stride, mask=i < length, other=0.0).to(tl.float32) * factor
            grad_squared += g * g
            grad_sum += g
    norm = tl.sqrt(tl.sum(weights_squared))
    clip = 1.0
    if CLIPS:  # lines 5 to 9
        longest = clipping * tl.maximum(norm, clipping_eps)
        clip = longest / tl.maximum(longest, tl.sqrt(tl.sum(grad_squared)), propagate_nan=ALL)
    return norm, clip, clip * tl.sum(grad_sum) / tl.maximum(length, 1)


@triton.jit(do_not_specialize=["tensors", "row_count"])
def observe(
    at, grads, rows, shapes, norms, sums, scale, found, tensors, row_count, sign, clipping, clipping_eps,
    weight1, beta2, weight2, log_beta2,
    DTYPE: tl.constexpr, CLIPS: tl.constexpr, CENTRALIZES: tl.constexpr, PNM: tl.constexpr, MAXIMUM: tl.constexpr,
    NORMS: tl.constexpr, SUMS: tl.constexpr, KAHAN: tl.constexpr, SCALED: tl.constexpr, FINDS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Update the moments of a row from its gradient.

    Args:
        scale: One float32, used with SCALED: the divisor of the gradients.
        sign: -1 to maximize the objective, else 1.
        weight1: Weight of the gradient in the first moment: 1 - beta1, or 1 - beta1^2 with PNM.
        weight2: Weight of the squared gradient in the second moment, 1 - beta2.
        NORMS, SUMS: Whether to store `norms` and `sums`.
    """
    row = tl.program_id(0)
    tensor, stepped, offset, length, stride = row_of(grads, found, rows, row_count, FINDS)
    t = tl.load(address(at, STEP, tensors, tensor, tl.float32), mask=stepped, other=0.0) + 1
    weights = address(at, WEIGHTS, tensors, tensor, DTYPE) + offset
    lost = address(at, LOST, tensors, tensor, DTYPE) + offset
    grad = tl.load(grads + tensor).to(tl.pointer_type(DTYPE)) + offset
    factor = sign
    if SCALED:
        factor = sign / tl.load(scale)

    clip = 1.0
    mean = 0.0
    if CLIPS or CENTRALIZES or NORMS:
        norm, clip, grad_mean = clip_and_mean(
            weights, lost, grad, length, stride, factor, clipping, clipping_eps, CLIPS, CENTRALIZES, NORMS, KAHAN, BLOCK
        )
        if NORMS:
            tl.store(norms + row, norm, mask=stepped)
        if CENTRALIZES:  # line 10
            mean = tl.where(tl.load(shapes + 3 * (tensors + 1) + tensor) > 0, grad_mean, 0.0)

    first = address(at, FIRST, tensors, tensor, tl.float32) + offset
    if PNM:  # the two moments alternate
        even = address(at, EVEN, tensors, tensor, tl.float32) + offset
        first = tl.where(t.to(tl.int32) % 2 == 1, first, even)
    second = address(at, SECOND, tensors, tensor, tl.float32) + offset
    largest = address(at, LARGEST, tensors, tensor, tl.float32) + offset
    v_sum = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, length, BLOCK):
        i = start + tl.arange(0, BLOCK)
        g = tl.load(grad + i * stride, mask=i < length, other=0.0).to(tl.float32) * factor * clip - mean
        m = tl.load(first + i * stride, mask=i < length, other=0.0)
        tl.store(first + i * stride, m + weight1 * (g - m), mask=i < length)  # line 11
        v = beta2 * tl.load(second + i * stride, mask=i < length, other=0.0) + weight2 * g * g  # line 13
        tl.store(second + i * stride, v, mask=i < length)
        if MAXIMUM:  # line 14
            v = tl.maximum(v, tl.load(largest + i * stride, mask=i < length, other=0.0), propagate_nan=ALL)
            tl.store(largest + i * stride, v, mask=i < length)
        v_sum += tl.where(i < length, v, 0.0)
    if SUMS:  # line 15
        tl.store(sums + row, tl.sum(v_sum) / one_less_power(log_beta2, t))


@triton.jit(do_not_specialize=["tensors"])
def settle(
    at, grads, shapes, sums, numbers, total, found, lr, tensors, gain, eps, weight_decay, log_beta1, log_beta2,
    LAYER: tl.constexpr, TOTAL: tl.constexpr, FINDS: tl.constexpr, RATE_IS_TENSOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Count the step of a tensor, and store its scalars.

    Args:
        gain: Factor of the update besides the bias corrections.
        LAYER: Whether decay is divided by the root mean v_hat of the tensor.
        TOTAL: Whether an additional program stores `total`.
    """
    tensor = tl.program_id(0)
    added = tl.zeros((BLOCK,), tl.float32)
    if LAYER or TOTAL:
        first = tl.load(shapes + (tensors + 1) + tensor)
        count = tl.load(shapes + 2 * (tensors + 1) + tensor)
        for start in range(0, count, BLOCK):
            i = start + tl.arange(0, BLOCK)
            added += tl.load(sums + first + i, mask=i < count, other=0.0)
    if tensor == tensors:
        tl.store(total, tl.sum(added))
    else:
        stepped = steps(grads, found, tensor, FINDS)
        step = address(at, STEP, tensors, tensor, tl.float32)
        t = tl.load(step, mask=stepped, other=0.0) + 1  # line 3
        tl.store(step, t, mask=stepped)
        rate = lr
        if RATE_IS_TENSOR:
            rate = tl.load(lr)
        root = tl.sqrt(one_less_power(log_beta2, t))
        size = rate * gain * root / one_less_power(log_beta1, t)  # lines 12, 15, 16: u is corrected instead of v
        pull = tl.minimum(rate * weight_decay, 1.0)
        if LAYER:  # line 18
            pull = pull_of(tl.sum(added) / tl.load(shapes + tensor), rate * weight_decay, eps)
        tl.store(numbers + tensor, size)
        tl.store(numbers + tensors + tensor, eps * root)
        tl.store(numbers + 2 * tensors + tensor, pull)


@triton.jit
def kept_share(
    pull, norm, total, lr, weight_decay, eps, least,
    NORM_LOSS: tl.constexpr, GLOBAL: tl.constexpr, RATE_IS_TENSOR: tl.constexpr,
):  # fmt: skip
    """Return the weight factor of a row under decay (lines 18, 19), 1 - c, or 1 - c (1 - 1 / norm) with norm loss."""
    if GLOBAL:
        rate = lr
        if RATE_IS_TENSOR:
            rate = tl.load(lr)
        pull = pull_of(tl.load(total), rate * weight_decay, eps)
    share = 1.0 - pull
    if NORM_LOSS:
        share = 1.0 + pull * (1.0 / tl.maximum(norm, least) - 1.0)
    return share


@triton.jit(do_not_specialize=["tensors", "row_count"])
def move(
    at, grads, rows, norms, numbers, total, found, lr, tensors, row_count, older, eps, weight_decay, weight_slow,
    least,
    DTYPE: tl.constexpr, PNM: tl.constexpr, MAXIMUM: tl.constexpr, DECAYS: tl.constexpr, NORM_LOSS: tl.constexpr,
    GLOBAL: tl.constexpr, K: tl.constexpr, KAHAN: tl.constexpr, FINDS: tl.constexpr, RATE_IS_TENSOR: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Update the weights of a row, and merge them with the slow weights if a merge is due.

    Args:
        older: beta0 / (1 + beta0), the weight of the previous moment with PNM.
        weight_slow: 1 - beta, the weight of theta in a lookahead merge.
        least: Lower bound of a row's norm, against division by zero.
        GLOBAL: Whether decay is divided by the root of `total`.
        K: Number of steps between merges; 0 for none.
    """
    tensor, stepped, offset, length, stride = row_of(grads, found, rows, row_count, FINDS)
    t = tl.load(address(at, STEP, tensors, tensor, tl.float32), mask=stepped, other=1.0).to(tl.int32)
    size = tl.load(numbers + tensor)
    epsilon = tl.load(numbers + tensors + tensor)
    keep = 1.0
    if DECAYS:
        pull = tl.load(numbers + 2 * tensors + tensor)
        norm = tl.load(norms + tl.program_id(0), mask=stepped, other=1.0)
        keep = kept_share(pull, norm, total, lr, weight_decay, eps, least, NORM_LOSS, GLOBAL, RATE_IS_TENSOR)

    weights = address(at, WEIGHTS, tensors, tensor, DTYPE) + offset
    lost = address(at, LOST, tensors, tensor, DTYPE) + offset
    slow = address(at, SLOW, tensors, tensor, tl.float32) + offset
    first = address(at, FIRST, tensors, tensor, tl.float32) + offset
    before = first
    if PNM:
        even = address(at, EVEN, tensors, tensor, tl.float32) + offset
        before = tl.where(t % 2 == 1, even, first)
        first = tl.where(t % 2 == 1, first, even)
    second = address(at, SECOND, tensors, tensor, tl.float32) + offset
    if MAXIMUM:
        second = address(at, LARGEST, tensors, tensor, tl.float32) + offset
    for start in range(0, length, BLOCK):
        i = start + tl.arange(0, BLOCK)
        theta = tl.load(weights + i * stride, mask=i < length, other=0.0).to(tl.float32)
        if KAHAN:
            theta += tl.load(lost + i * stride, mask=i < length, other=0.0).to(tl.float32)
        u = tl.load(first + i * stride, mask=i < length, other=0.0)
        if PNM:  # line 12
            u -= older * tl.load(before + i * stride, mask=i < length, other=0.0)
        divisor = tl.sqrt(tl.load(second + i * stride, mask=i < length, other=1.0)) + epsilon
        u = u / tl.where(divisor == 0.0, float("inf"), divisor)  # line 16; with eps = 0, 0 / 0 counts as 0
        theta = theta * keep - size * u  # line 19
        if K:  # lines 20 to 23
            merges = (i < length) & (t % K == 0)
            old = tl.load(slow + i * stride, mask=merges, other=0.0)
            merged = old + weight_slow * (theta - old)
            tl.store(slow + i * stride, merged, mask=merges)
            theta = tl.where(merges, merged, theta)
        rounded = theta.to(DTYPE)
        tl.store(weights + i * stride, rounded, mask=i < length)
        if KAHAN:
            tl.store(lost + i * stride, (theta - rounded.to(tl.float32)).to(DTYPE), mask=i < length)
