"""The base class of ingredients: their arguments with ranges, their state, and their part in a step."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, ClassVar

import torch
from torch import Tensor

from ranger21.optim.ranges import Range
from ranger21.optim.step import Step
from ranger21.optim.tensors import Tensors, spread_as


class Place(IntEnum):
    """The position of an ingredient in a chain."""

    GRADIENT = 0  # anywhere before the last moment
    FIRST_MOMENT = 1
    SECOND_MOMENT = 2
    CORRECTION = 3  # directly after the moments
    ANYWHERE = 4  # acts on the gradient if before the moments, on the update if after them
    UPDATE = 5  # after the moments
    WEIGHTS = 6
    AFTER_THE_STEP = 7


def to_python(value: Any) -> Any:
    """Convert NumPy numbers and arrays, also in containers, to Python's, which torch.load accepts."""
    if isinstance(value, dict):
        return {name: to_python(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(to_python, value))
    return value.tolist() if type(value).__module__ == "numpy" and hasattr(value, "tolist") else value


def argument(default: Any, range: Range, tried: Sequence[Any] = ()) -> Any:
    """Declare an argument of an ingredient.

    Args:
        default: Default value.
        range: Valid values.
        tried: Further values that `scripts/compose.py` tries. It tries all values of a range that has only a few.
    """
    return field(default=default, metadata={"range": range, "tried": range.choices or (default, *tried)})


@dataclass(frozen=True)
class Ingredient:
    """A component of an optimizer. Its dataclass fields are its arguments. Every method does nothing by default.

    A step calls these methods of the ingredients in the chain's order: `on_gradient` of those up to the last moment;
    `on_update` of the moments (first before second) and those after them; `on_weights`. It then subtracts the update
    and calls `after`. Do not modify tensors of `step.gradient` or `step.update` in place unless `step.is_spare`
    returns True for the list: they may be the user's gradients or state.

    Attributes:
        name: Name in `parts`.
        place: Position in a chain.
        role: A chain can have only one ingredient with the same non-empty role.
        uses_gradient: Whether `on_update` reads `step.gradient`.
        may_start_late: Whether the ingredient can be switched on in mid-run, because its state has no bias correction.
    """

    name: ClassVar[str]
    place: ClassVar[Place]
    role: ClassVar[str] = ""
    uses_gradient: ClassVar[bool] = False
    may_start_late: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for one in fields(self):
            value, range = to_python(getattr(self, one.name)), one.metadata["range"]
            object.__setattr__(self, one.name, value)
            if not range.has(value):
                raise ValueError(f"{self.name}: {one.name} = {value!r} must be {range.words}.")

    @property
    def sees(self) -> str:
        """What must be whole on one device: "a unit" (a row), "a tensor", "all parameters", or "" for nothing."""
        return ""

    @property
    def keeps(self) -> tuple[str, ...]:
        """Names of the state tensors per parameter."""
        return ()

    def start(self, name: str, param: Tensor) -> Tensor:
        """Return the initial value of a state tensor; zeros by default."""
        return torch.zeros_like(param, memory_format=torch.preserve_format)

    def check(self, chain: Sequence["Ingredient"]) -> None:
        """Raise a ValueError if this chain does not suit the ingredient. Place and role are checked elsewhere."""

    def check_param(self, param: Tensor) -> None:
        """Raise a ValueError if the ingredient cannot be used for this parameter."""

    def wants(self, weight_decay: float) -> str:
        """Return the name of the mean over all parameters that the ingredient needs, or an empty string."""
        return ""

    def adds(self, step: Step) -> dict[str, tuple[Tensor, int]]:
        """Return (sum, number of elements) over the step's parameters for each mean that `wants` can name."""
        return {}

    def on_gradient(self, step: Step) -> None:
        """Change `step.gradient`, or update the state from it."""

    def on_update(self, step: Step) -> None:
        """Set or change `step.update`, or set its pending `step.gain` and `step.division`."""

    def on_weights(self, step: Step) -> None:
        """Set `step.factors`."""

    def after(self, step: Step) -> None:
        """Change the weights after the update is subtracted."""


class GradientTransform(Ingredient):
    """An ingredient that replaces the gradient, or the update if it comes after the moments."""

    def apply(self, step: Step, xs: Tensors) -> Tensors:
        """Return the replacement of `xs`, the gradient or the update."""
        raise NotImplementedError

    def on_gradient(self, step: Step) -> None:
        step.gradient = spread_as(self.apply(step, step.gradient), step.params)

    def on_update(self, step: Step) -> None:
        step.update = spread_as(self.apply(step, step.update), step.params)
