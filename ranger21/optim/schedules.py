"""Learning-rate schedules: pure functions from the step to a multiplier of the base learning rate.

Steps are counted from 1. Step 0 is allowed as well, because torch's schedulers evaluate it.
"""

import math
from collections.abc import Callable

Schedule = Callable[[int, int], float]


def _check(step: int, total_steps: int) -> None:
    if total_steps < 1:
        raise ValueError(f"total_steps = {total_steps} must be at least 1.")
    if step < 0:
        raise ValueError(f"step = {step} must not be negative.")


def explore_exploit(
    step: int, total_steps: int, *, beta2: float = 0.999, warmup: float = 0.22, warmdown: float = 0.28
) -> float:
    """Return the multiplier of Ranger21's schedule: a linear warm-up, a plateau at 1, and a linear warm-down to 0.

    Sections 2.7 and 2.8, equation 10: min(1, max((1 - beta2) / 2 * t, t / t_warmup), (t_max - t) / t_warmdown). The
    warm-up of 2 / (1 - beta2) steps follows Ma and Yarats (2019); the plateau and warm-down follow Iyer et al. (2020).

    Args:
        step: t, counted from 1.
        total_steps: t_max, at least 1. From this step on, the multiplier is 0.
        beta2: Decay rate of the optimizer's second moment, in [0, 1).
        warmup: t_warmup as a fraction of t_max, an upper bound on the length of the warm-up. 0 for no warm-up.
        warmdown: t_warmdown as a fraction of t_max. 0 for no warm-down.

    Raises:
        ValueError: If an argument is out of range.
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
    """Return 1, as for the AdamW baseline of the paper."""
    _check(step, total_steps)
    return 1.0


def official(step: int, total_steps: int, *, lr: float, beta2: float = 0.999) -> float:
    """Return the multiplier of the schedule in the authors' code.

    It is a linear warm-up, a plateau at 1, and from 72 % of the steps a linear warm-down to a learning rate of 3e-5.

    Args:
        step: t, counted from 1.
        total_steps: t_max, at least 1.
        lr: Base learning rate, needed because the final learning rate is absolute.
        beta2: Decay rate of the optimizer's second moment. The warm-up takes 2 / (1 - beta2) steps, or 22 % of t_max
            if that would exceed 45 % of t_max.
    """
    _check(step, total_steps)
    warmup = math.ceil(round(2 / (1 - beta2), 9))
    if warmup > 0.45 * total_steps:
        warmup = int(0.22 * total_steps)
    start = int(0.72 * total_steps)
    if step >= start:
        return 1 - (1 - 3e-5 / lr) * min(1.0, (step + 1 - start) / (total_steps - start + 1))
    return min(1.0, step / max(1, warmup))


def cosine(step: int, total_steps: int, *, over: float | None = None, final: float = 0.0) -> float:
    """Return the multiplier of half a cosine from 1 to `final` (Loshchilov and Hutter 2017, equation 5, no restarts).

    Args:
        step: Current step, counted from 1.
        total_steps: Number of steps, at least 1.
        over: Number of steps of the half cosine; None for `total_steps`. Afterwards the multiplier is `final`.
        final: Multiplier at the end.
    """
    _check(step, total_steps)
    part = min(1.0, step / (over or total_steps))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * part))


def step_decay(step: int, total_steps: int, *, every: float, gamma: float = 0.1) -> float:
    """Return gamma^n, where n counts the completed periods of `every` steps (He et al. 2016; torch's StepLR)."""
    _check(step, total_steps)
    return gamma ** int(max(0, step - 1) / every + 1e-9)


def one_cycle(
    step: int, total_steps: int, *, rise: float, anneal: str = "cosine", start: float = 0.04, final: float = 4e-6
) -> float:
    """Return the multiplier of one cycle (Smith 2018): from `start` to 1, then down to `final` at the last step.

    Values and defaults are those of torch's OneCycleLR, but momentum is not cycled.

    Args:
        step: Current step, counted from 1.
        total_steps: Number of steps, at least 1.
        rise: Number of steps of the increase.
        anneal: Shape of both parts, "cosine" (as in fastai) or "linear".
        start: Multiplier at the first step.
        final: Multiplier at the last step.
    """
    _check(step, total_steps)
    now, top, last = max(0, step - 1), rise - 1, total_steps - 1
    if now <= top:
        return _between(start, 1.0, now / top if top > 0 else 1.0, anneal)
    return _between(1.0, final, min(1.0, (now - top) / max(1e-9, last - top)), anneal)


def _between(a: float, b: float, part: float, anneal: str) -> float:
    if anneal == "cosine":
        part = (1 - math.cos(math.pi * part)) / 2
    return a + (b - a) * part


def cyclic(step: int, total_steps: int, *, half_cycle: float, low: float = 0.1, gamma: float = 1.0) -> float:
    """Return the multiplier of a triangular wave between `low` and 1 (Smith 2017; torch's CyclicLR).

    Args:
        step: Current step, counted from 1.
        total_steps: Number of steps, at least 1.
        half_cycle: Number of steps of each increase and of each decrease.
        low: Lowest multiplier.
        gamma: Height of each triangle relative to the previous one. 1 is Smith's "triangular", 0.5 "triangular2".
    """
    _check(step, total_steps)
    cycle, part = divmod(max(0, step - 1) / (2 * half_cycle), 1)
    return low + (1 - low) * (1 - abs(2 * part - 1)) * gamma**cycle


def after_warmup(schedule: Schedule, warmup: float) -> Schedule:
    """Return `schedule` preceded by a linear warm-up from 0 to its first value.

    The warm-up takes `warmup` steps of the total; the schedule is shortened to the remaining ones.
    """

    def warmed(step: int, total_steps: int) -> float:
        span = max(1, total_steps - math.ceil(warmup))
        if step <= warmup:
            return step / warmup * max(schedule(0, span), schedule(1, span))
        return schedule(max(1, step - math.ceil(warmup)), span)

    return warmed if warmup else schedule


# Keys are the schedule names of the configuration.
SCHEDULES: dict[str, Callable[..., float]] = {
    "explore_exploit": explore_exploit,
    "official": official,
    "constant": constant,
    "step": step_decay,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "cyclic": cyclic,
}
