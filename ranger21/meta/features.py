"""What the regression sees of an arm: its ingredients, their pairs, and their pairs with schedule and learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranger21.meta.space import NONE, Arm, Option, Space, groups
from ranger21.system.errors import UserError

Array = NDArray[np.float64]
MAIN, PAIR = "main", "pair"


@dataclass(frozen=True)
class Term:
    """A coefficient of the regression: the product of two indicators, of which the first may be the constant 1.

    Attributes:
        left, right: places of the indicators.
        name: the names of the indicators that are not constant.
    """

    left: int
    right: int
    name: tuple[str, ...]

    @property
    def kind(self) -> str:
        return MAIN if len(self.name) == 1 else PAIR

    @property
    def is_square(self) -> bool:
        """Whether it is the square of a number."""
        return len(self.name) == 2 and self.name[0] == self.name[1]


class Features:
    """Encodes arms as vectors x, so that the expected response of an arm is x · θ.

    The indicators z of an arm are: 1 for each group that it contains (an ingredient, a schedule; not the first group
    of each slot), 1 for each argument that is not a default, its place on the scale of each number, and 1 for the rung
    at which it ran, if that is not the last. An x consists of products of two of them: each indicator alone, all pairs
    of groups of different slots, each group with each number, the squares of the numbers, and the rungs with the
    numbers. A number in a slot that needs another one, such as the weight decay, has a scale for each group there.

    Args:
        space: the search space.
        rungs: number of rungs of successive halving.
    """

    def __init__(self, space: Space, rungs: int) -> None:
        self.space, self.rungs = space, rungs
        self._places: dict[str, int] = {"": 0}
        of_slot = {slot: groups(options)[1:] for slot, options in space.slots.items() if not _is_number(options)}
        numbers = [name for slot in space.slots for name in self._numbers(slot)]
        arguments = dict.fromkeys(text for options in space.slots.values() for o in options for text in o.arguments)
        names = [*(group for found in of_slot.values() for group in found), *arguments, *numbers]
        lower = [f"rung {rung + 1}" for rung in range(rungs - 1)]
        for name in (*names, *lower):
            if name in self._places:
                raise UserError(f"Two parts of the search space are named {name!r}: rename your ingredient.")
            self._places[name] = len(self._places)
        pairs = [("", name) for name in (*names, *lower)]
        slots = list(of_slot)
        for i, slot in enumerate(slots):
            pairs += [(a, b) for other in slots[i + 1 :] for a in of_slot[slot] for b in of_slot[other]]
        free = [slot for slot, options in space.slots.items() if _is_number(options) and slot not in space.needs]
        pairs += [(group, number) for number in free for found in of_slot.values() for group in found]
        pairs += [(number, number) for number in numbers] + [(rung, number) for rung in lower for number in free]
        self.terms = [Term(0, 0, ())]
        self.terms += [Term(self._places[a], self._places[b], tuple(n for n in (a, b) if n)) for a, b in pairs]
        self._places_of = {
            (slot, one.label): [self._places[name] for name in (one.group, *one.arguments) if name in self._places]
            for slot, options in space.slots.items()
            if not _is_number(options)
            for one in options
        }
        self._scaled = {
            (slot, one.label): _scaled(one, options)
            for slot, options in space.slots.items()
            if _is_number(options)
            for one in options
        }
        self._left = np.array([term.left for term in self.terms])
        self._right = np.array([term.right for term in self.terms])

    def encode(self, arm: Arm, rung: int | None = None) -> Array:
        """Return the vector x of an arm at a rung; None: the last one."""
        z = np.zeros(len(self._places))
        z[0] = 1
        for slot, label in arm.items():
            if (slot, label) in self._places_of:
                z[self._places_of[slot, label]] = 1
            elif self.space.matters(arm, slot):
                z[self._places[self._number(arm, slot)]] = self._scaled[slot, label]
        if rung is not None and rung < self.rungs - 1:
            z[self._places[f"rung {rung + 1}"]] = 1
        return z[self._left] * z[self._right]

    def _numbers(self, slot: str) -> list[str]:
        """Return the names of a slot's scales: one, or one for each group of the slot that it needs."""
        if not _is_number(self.space.slots[slot]):
            return []
        if slot not in self.space.needs:
            return [slot]
        return [f"{slot} of {group}" for group in groups(self.space.slots[self.space.needs[slot]]) if group != NONE]

    def _number(self, arm: Arm, slot: str) -> str:
        if slot not in self.space.needs:
            return slot
        return f"{slot} of {self.space.option(arm, self.space.needs[slot]).group}"


def _is_number(options: Sequence[Option]) -> bool:
    return options[0].value is not None


def _scaled(option: Option, options: Sequence[Option]) -> float:
    """Return the place of a value between the least (-1) and the greatest (1)."""
    values = [one.value for one in options if one.value is not None]
    assert option.value is not None
    return 2 * (option.value - min(values)) / (max(values) - min(values)) - 1
