"""Learning-rate schedules: pure functions of the step, which return the multiplier of the base learning rate.

Steps are counted from 1, and step t uses the multiplier of t; step 0 may be asked for too, as torch's schedulers do.
"""

import math


def _check(step: int, total_steps: int) -> None:
    if total_steps < 1:
        raise ValueError(f"total_steps = {total_steps} must be at least 1.")
    if step < 0:
        raise ValueError(f"step = {step} must not be negative.")


def explore_exploit(
    step: int, total_steps: int, *, beta2: float = 0.999, warmup: float = 0.22, warmdown: float = 0.28
) -> float:
    """Ranger21's schedule (sections 2.7 and 2.8, equation 10): linear warm-up, a plateau, linear warm-down to 0.

    min(1, max((1 - beta2) / 2 * t, t / t_warmup), (t_max - t) / t_warmdown), after Ma and Yarats 2019 (the warm-up of
    2 / (1 - beta2) steps) and Iyer et al. 2020 (explore, then exploit).

    Args:
        step: t, counted from 1.
        total_steps: t_max. From there on the multiplier is 0.
        beta2: of the optimizer: the decay rate of its second moment, in [0, 1).
        warmup: t_warmup as a fraction of t_max, the longest that the warm-up may last. 0: none.
        warmdown: t_warmdown as a fraction of t_max. 0: none.

    Raises:
        ValueError: an argument out of its range.
    """
    _check(step, total_steps)
    if not 0 <= beta2 < 1:
        raise ValueError(f"beta2 = {beta2} must lie in [0, 1).")
    for name, value in (("warmup", warmup), ("warmdown", warmdown)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value} must be a fraction in [0, 1].")
    rise = max((1 - beta2) / 2 * step, step / (warmup * total_steps)) if warmup else 1.0
    fall = (total_steps - step) / (warmdown * total_steps) if warmdown else float(step < total_steps)
    return max(0.0, min(1.0, rise, fall))


def constant(step: int, total_steps: int) -> float:
    """Always 1: the plain AdamW that the paper compares with."""
    _check(step, total_steps)
    return 1.0


def cosine(step: int, total_steps: int) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts)."""
    _check(step, total_steps)
    return 0.5 * (1 + math.cos(math.pi * min(step, total_steps) / total_steps))


def official(step: int, total_steps: int, *, lr: float, beta2: float = 0.999) -> float:
    """The schedule in the authors' code: a linear warm-up, and from 72 % on a linear warm-down to a rate of 3e-5.

    Args:
        step: t, counted from 1.
        total_steps: t_max.
        lr: the base rate, of which the result is the multiplier: the last rate is absolute.
        beta2: of the optimizer. The warm-up takes 2 / (1 - beta2) steps, or 22 % of t_max if that is over 45 % of it.
    """
    _check(step, total_steps)
    warmup = math.ceil(round(2 / (1 - beta2), 9))
    if warmup > 0.45 * total_steps:
        warmup = int(0.22 * total_steps)
    start = int(0.72 * total_steps)
    if step >= start:
        return 1 - (1 - 3e-5 / lr) * min(1.0, (step + 1 - start) / (total_steps - start + 1))
    return min(1.0, step / max(1, warmup))
