"""Learning-rate schedules: pure functions of the step, which return the multiplier of the base learning rate.

Steps are counted from 1, and step t uses the multiplier of t; step 0 may be asked for too, as torch's schedulers do.
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


def cosine(step: int, total_steps: int, *, over: float | None = None, final: float = 0.0) -> float:
    """Half a cosine from 1 to `final` (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts).

    `over`: the steps it takes, all by default; from then on the multiplier is `final`.
    """
    _check(step, total_steps)
    part = min(1.0, step / (over or total_steps))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * part))


def step_decay(step: int, total_steps: int, *, every: float, gamma: float = 0.1) -> float:
    """`gamma` to the number of whole spans of `every` steps that came before (He et al. 2016; torch's StepLR)."""
    _check(step, total_steps)
    return gamma ** int(max(0, step - 1) / every + 1e-9)


def one_cycle(
    step: int, total_steps: int, *, rise: float, anneal: str = "cosine", start: float = 0.04, final: float = 4e-6
) -> float:
    """One cycle (Smith 2018): from `start` up to 1 over `rise` steps, then down to `final` at the last step.

    As torch's OneCycleLR, whose defaults these are: "cosine" (fastai's) or "linear" pieces. It cycles no momentum.
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
    """Triangles between `low` and 1, `half_cycle` steps up and as many down (Smith 2017; torch's CyclicLR).

    `gamma`: the height of a triangle relative to the one before: 1, his "triangular"; 0.5, "triangular2".
    """
    _check(step, total_steps)
    cycle, part = divmod(max(0, step - 1) / (2 * half_cycle), 1)
    return low + (1 - low) * (1 - abs(2 * part - 1)) * gamma**cycle


def after_warmup(schedule: Schedule, warmup: float) -> Schedule:
    """`schedule` behind a linear rise from 0 to its first value over `warmup` steps, taken from its length."""

    def warmed(step: int, total_steps: int) -> float:
        span = max(1, total_steps - math.ceil(warmup))
        if step <= warmup:
            return step / warmup * max(schedule(0, span), schedule(1, span))
        return schedule(max(1, step - math.ceil(warmup)), span)

    return warmed if warmup else schedule


# By the name of the configuration.
SCHEDULES: dict[str, Callable[..., float]] = {
    "explore_exploit": explore_exploit,
    "official": official,
    "constant": constant,
    "step": step_decay,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "cyclic": cyclic,
}
