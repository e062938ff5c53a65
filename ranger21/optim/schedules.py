"""Learning-rate schedules: pure functions from the step to a multiplier of the base learning rate. Imports no torch.

Steps are counted from 1. Step 0 is allowed as well, because torch's schedulers evaluate it.

A new schedule is a function here with `@schedule(NAME)`, and a file `configs/schedule/NAME.yaml` with `name`,
`linear_warmup` and the function's arguments. The annotation of each argument defines its values: a `Range`, or a
`Length` of time, which a configuration gives as a duration such as '5 epochs'.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeVar, cast

from ranger21.optim.ranges import ABOVE_0, BETA, SHARE, Range, one_of, or_none

Schedule = Callable[[int, int], float]
Function = TypeVar("Function", bound=Callable[..., float])


@dataclass(frozen=True)
class Length:
    """A length of time, which the schedule function receives in steps or as a fraction of the run.

    Attributes:
        share: Whether it is a fraction of the run. The shares of a schedule must sum to at most 1.
        from_start: Whether it begins at the first step. Only then do epochs have a fixed length while the batch grows.
        may_be_0: Whether a configuration may set it to 0. A length in steps is then passed to the function as 1.
    """

    share: bool = False
    from_start: bool = False
    may_be_0: bool = False

    @property
    def range(self) -> Range:
        """The range of values that the function accepts."""
        return SHARE if self.share else ABOVE_0


SPAN, SPAN_OR_0 = Length(), Length(may_be_0=True)
WARMUP, WARMDOWN = Length(share=True, from_start=True, may_be_0=True), Length(share=True, may_be_0=True)
BASE_RATE = Range("a number above 0", ABOVE_0.has)  # the learning rate that the multiplier applies to

SCHEDULES: dict[str, Callable[..., float]] = {}  # by the name in a configuration


class Argument(NamedTuple):
    """An argument of a schedule: its type, and its range or length."""

    type: Any
    mark: Range | Length


def arguments(function: Callable[..., float]) -> dict[str, Argument]:
    """Return the arguments of a schedule besides the step and the number of steps, by its annotations.

    Raises:
        TypeError: If an argument is not annotated with a Range or a Length.
    """
    found: dict[str, Argument] = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if name in ("step", "total_steps"):
            continue
        marks = [mark for mark in getattr(parameter.annotation, "__metadata__", ()) if isinstance(mark, Range | Length)]
        if not marks:
            raise TypeError(f"{function.__name__}: annotate {name} with a Range or a Length.")
        found[name] = Argument(parameter.annotation.__origin__, marks[0])
    return found


def schedule(name: str) -> Callable[[Function], Function]:
    """Register a schedule under its name in configurations, and check its arguments at every call."""

    def register(function: Function) -> Function:
        marks = {key: argument.mark for key, argument in arguments(function).items()}
        ranges = {key: mark.range if isinstance(mark, Length) else mark for key, mark in marks.items()}
        defaults = function.__kwdefaults__ or {}
        ranges |= {key: or_none(ranges[key]) for key in ranges if defaults.get(key, ...) is None}

        @functools.wraps(function)
        def checked(step: int, total_steps: int, **values: Any) -> float:
            if total_steps < 1:
                raise ValueError(f"total_steps = {total_steps} must be at least 1.")
            if step < 0:
                raise ValueError(f"step = {step} must not be negative.")
            for key in values.keys() & ranges.keys():
                if not ranges[key].has(values[key]):
                    raise ValueError(f"{key} = {values[key]} must be {ranges[key].words}.")
            return function(step, total_steps, **values)

        SCHEDULES[name] = checked
        return cast(Function, checked)

    return register


@schedule("explore_exploit")
def explore_exploit(
    step: int,
    total_steps: int,
    *,
    beta2: Annotated[float, BETA] = 0.999,
    warmup: Annotated[float, WARMUP] = 0.22,
    warmdown: Annotated[float, WARMDOWN] = 0.28,
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
    rise = max((1 - beta2) / 2 * step, step / (warmup * total_steps)) if warmup else 1.0
    fall = (total_steps - step) / (warmdown * total_steps) if warmdown else float(step < total_steps)
    return max(0.0, min(1.0, rise, fall))


@schedule("constant")
def constant(step: int, total_steps: int) -> float:
    """Return 1, as for the AdamW baseline of the paper."""
    return 1.0


@schedule("official")
def official(
    step: int, total_steps: int, *, lr: Annotated[float, BASE_RATE], beta2: Annotated[float, BETA] = 0.999
) -> float:
    """Return the multiplier of the schedule in the authors' code.

    It is a linear warm-up, a plateau at 1, and from 72 % of the steps a linear warm-down to a learning rate of 3e-5.

    Args:
        step: t, counted from 1.
        total_steps: t_max, at least 1.
        lr: Base learning rate, needed because the final learning rate is absolute.
        beta2: Decay rate of the optimizer's second moment. The warm-up takes 2 / (1 - beta2) steps, or 22 % of t_max
            if that would exceed 45 % of t_max.
    """
    warmup = math.ceil(round(2 / (1 - beta2), 9))
    if warmup > 0.45 * total_steps:
        warmup = int(0.22 * total_steps)
    start = int(0.72 * total_steps)
    if step >= start:
        return 1 - (1 - 3e-5 / lr) * min(1.0, (step + 1 - start) / (total_steps - start + 1))
    return min(1.0, step / max(1, warmup))


@schedule("cosine")
def cosine(
    step: int,
    total_steps: int,
    *,
    over: Annotated[float | None, SPAN] = None,
    final: Annotated[float, SHARE] = 0.0,
) -> float:
    """Return the multiplier of half a cosine from 1 to `final` (Loshchilov and Hutter 2017, equation 5, no restarts).

    Args:
        step: Current step, counted from 1.
        total_steps: Number of steps, at least 1.
        over: Number of steps of the half cosine; None for `total_steps`. Afterwards the multiplier is `final`.
        final: Multiplier at the end.
    """
    part = min(1.0, step / (over or total_steps))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * part))


@schedule("step")
def step_decay(
    step: int, total_steps: int, *, every: Annotated[float, SPAN], gamma: Annotated[float, SHARE] = 0.1
) -> float:
    """Return gamma^n, where n counts the completed periods of `every` steps (He et al. 2016; torch's StepLR)."""
    return gamma ** int(max(0, step - 1) / every + 1e-9)


@schedule("one_cycle")
def one_cycle(
    step: int,
    total_steps: int,
    *,
    rise: Annotated[float, SPAN_OR_0],
    anneal: Annotated[str, one_of("cosine", "linear")] = "cosine",
    start: Annotated[float, SHARE] = 0.04,
    final: Annotated[float, SHARE] = 4e-6,
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
    now, top, last = max(0, step - 1), rise - 1, total_steps - 1
    if now <= top:
        return _between(start, 1.0, now / top if top > 0 else 1.0, anneal)
    return _between(1.0, final, min(1.0, (now - top) / max(1e-9, last - top)), anneal)


def _between(a: float, b: float, part: float, anneal: str) -> float:
    if anneal == "cosine":
        part = (1 - math.cos(math.pi * part)) / 2
    return a + (b - a) * part


@schedule("cyclic")
def cyclic(
    step: int,
    total_steps: int,
    *,
    half_cycle: Annotated[float, SPAN],
    low: Annotated[float, SHARE] = 0.1,
    gamma: Annotated[float, SHARE] = 1.0,
) -> float:
    """Return the multiplier of a triangular wave between `low` and 1 (Smith 2017; torch's CyclicLR).

    Args:
        step: Current step, counted from 1.
        total_steps: Number of steps, at least 1.
        half_cycle: Number of steps of each increase and of each decrease.
        low: Lowest multiplier.
        gamma: Height of each triangle relative to the previous one. 1 is Smith's "triangular", 0.5 "triangular2".
    """
    cycle, part = divmod(max(0, step - 1) / (2 * half_cycle), 1)
    return low + (1 - low) * (1 - abs(2 * part - 1)) * gamma**cycle


@schedule("triangle")
def triangle(
    step: int,
    total_steps: int,
    *,
    rise: Annotated[float, SPAN],
    start: Annotated[float, SHARE] = 1e-4,
    final: Annotated[float, SHARE] = 0.0,
) -> float:
    """Return the multiplier of a triangle: linearly from `start` to 1, then linearly to `final` (ffcv-imagenet's).

    `one_cycle` with linear parts peaks one step earlier, and reaches `final` at the last step instead of after it.

    Args:
        step: Current step, counted from 1.
        total_steps: Number of steps, at least 1.
        rise: Number of steps before the first one with the full rate.
        start: Multiplier at the first step.
        final: Multiplier that a step after the last one would have.
    """
    done = max(0, step - 1)
    if done < rise:
        return _between(start, 1.0, done / rise, "linear")
    return _between(1.0, final, min(1.0, (done - rise) / max(1e-9, total_steps - rise)), "linear")


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
