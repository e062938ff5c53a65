"""What an ingredient is: its arguments and their ranges, the state it keeps, and what it does in a step."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, spread_as


class Place(IntEnum):
    """Where in a chain an ingredient may stand: those of a lower place before those of a higher one."""

    GRADIENT = 0  # before the last moment
    FIRST_MOMENT = 1
    SECOND_MOMENT = 2
    CORRECTION = 3  # right after the moments
    ANYWHERE = 4  # on the gradient before the moments, on the update after them
    UPDATE = 5  # on the update
    WEIGHTS = 6
    AFTER_THE_STEP = 7


class Range(NamedTuple):
    """What an argument may be: in words, and whether a value is."""

    words: str
    has: Callable[[Any], bool]


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def plain(value: Any) -> Any:
    """Return NumPy's numbers and arrays as Python's, which a file of weights can hold."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(plain, value))
    return value.tolist() if type(value).__module__ == "numpy" and hasattr(value, "tolist") else value


FRACTION = Range("a number in [0, 1)", lambda x: is_number(x) and 0 <= x < 1)
AT_LEAST_0 = Range("a number of at least 0", lambda x: is_number(x) and x >= 0)
ABOVE_0 = Range("a number above 0", lambda x: is_number(x) and x > 0)
ABOVE_0_OR_NONE = Range("a number above 0, or None", lambda x: x is None or ABOVE_0.has(x))
SWITCH = Range("True or False", lambda x: isinstance(x, bool))
COUNT = Range("an integer >= 1", lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= 1)


def one_of(*choices: str | None) -> Range:
    words = [repr(choice) for choice in choices if choice is not None] + ["None"] * (None in choices)
    fits = {choice for choice in choices if choice is not None}
    return Range(
        f"{', '.join(words[:-1])} or {words[-1]}", lambda x: (isinstance(x, str) and x in fits) or x is None in choices
    )


def argument(default: Any, range: Range) -> Any:
    """Declare an argument of an ingredient, with its default and its range."""
    return field(default=default, metadata={"range": range})


@dataclass(frozen=True)
class Ingredient:
    """A part of an optimizer. Its fields are its arguments; each of its methods does nothing unless it is overridden.

    A step calls, of every ingredient in the chain's order, first `on_gradient`, for those up to the last moment; then
    `on_update`, for the moments (the first before the second) and those after them; then `on_weights`; it subtracts
    the update; and calls `after`. No tensor of `step.gradient` and `step.update` may be written to, unless
    `step.is_spare` says so: it may be the user's, or state.
    """

    name: ClassVar[str]
    place: ClassVar[Place]
    role: ClassVar[str] = ""  # of the ingredients of one role a chain has at most one
    uses_gradient: ClassVar[bool] = False  # reads `step.gradient` in `on_update`
    may_start_late: ClassVar[bool] = False  # may be switched on in mid-run: what it keeps has no bias correction

    def __post_init__(self) -> None:
        for one in fields(self):
            value, range = plain(getattr(self, one.name)), one.metadata["range"]
            object.__setattr__(self, one.name, value)
            if not range.has(value):
                raise ValueError(f"{self.name}: {one.name} = {value!r} must be {range.words}.")

    @property
    def sees(self) -> str:
        """What it must see whole: "a unit", "a tensor", "all parameters"; empty: elements will do."""
        return ""

    @property
    def keeps(self) -> tuple[str, ...]:
        """The names of the tensors that it keeps for each parameter."""
        return ()

    def start(self, name: str, param: Tensor) -> Tensor:
        """Return what it keeps under a name before the first step: zeros like the parameter."""
        return torch.zeros_like(param, memory_format=torch.preserve_format)

    def check(self, chain: Sequence["Ingredient"]) -> None:
        """Raise a ValueError if it cannot be in this chain, for a reason that its place and role do not tell."""

    def check_param(self, param: Tensor) -> None:
        """Raise a ValueError if it cannot be used for this parameter."""

    def wants(self, weight_decay: float) -> str:
        """Return the name of the mean over all parameters that it needs, of those that `adds` tells; empty: none."""
        return ""

    def adds(self, step: Step) -> dict[str, tuple[Tensor, int]]:
        """Return sums over the step's parameters, and the numbers of their elements, for means over all."""
        return {}

    def on_gradient(self, step: Step) -> None:
        """Change `step.gradient`, or take it into the state."""

    def on_update(self, step: Step) -> None:
        """Set `step.update`, change it, or leave it `step.gain` and `step.division` to be multiplied and divided by."""

    def on_weights(self, step: Step) -> None:
        """Set `step.factors`."""

    def after(self, step: Step) -> None:
        """Change the weights after the update was subtracted."""


class Transform(Ingredient):
    """An ingredient that puts something in the place of what passes: the gradient, or the update after the moments."""

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        """Return what takes the place of `xs`."""
        raise NotImplementedError

    def on_gradient(self, step: Step) -> None:
        step.gradient = spread_as(self.apply(step, step.gradient), step.params)

    def on_update(self, step: Step) -> None:
        step.update = spread_as(self.apply(step, step.update), step.params)
