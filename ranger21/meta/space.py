"""Search spaces: slots, each filled with one option. An arm fills every slot."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Arm = Mapping[str, str]  # the label of the option in each slot
NONE = "none"
MOST_DRAWS = 100_000  # of a random valid arm


@dataclass(frozen=True)
class Option:
    """What a slot can hold.

    Attributes:
        label: its name in the slot.
        group: what it is, regardless of its arguments, such as the name of an ingredient; NONE for nothing. The groups
            of a slot are equally likely in a random arm.
        arguments: the arguments in which it differs from the first option of its group.
        value: its place on a scale, for the options of a number; else None.
    """

    label: str
    group: str
    arguments: tuple[str, ...] = ()
    value: float | None = None


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        slots: the options of each slot by its name.
        is_valid: returns whether an arm is allowed.
        needs: for a slot that only matters if another one is filled, the name of that other slot.
    """

    slots: Mapping[str, tuple[Option, ...]]
    is_valid: Callable[[Arm], bool]
    needs: Mapping[str, str]

    def option(self, arm: Arm, slot: str) -> Option:
        """Return the option in a slot."""
        return self._options[slot, arm[slot]]

    @functools.cached_property
    def _options(self) -> dict[tuple[str, str], Option]:
        return {(slot, option.label): option for slot, options in self.slots.items() for option in options}

    def key(self, arm: Arm) -> tuple[tuple[str, str], ...]:
        """Return what identifies an arm: its options in the slots that matter."""
        return tuple((slot, arm[slot]) for slot in self.slots if self.matters(arm, slot))

    def matters(self, arm: Arm, slot: str) -> bool:
        """Return whether the option in a slot has an effect."""
        return slot not in self.needs or self.option(arm, self.needs[slot]).group != NONE

    def random(self, rng: np.random.Generator) -> Arm:
        """Return a random valid arm: in each slot every group is equally likely, and then every option of the group.

        Raises:
            ValueError: no valid arm was found in 100,000 draws.
        """
        for _ in range(MOST_DRAWS):
            arm = {slot: _drawn(by_group, rng) for slot, by_group in self._labels.items()}
            if self.is_valid(arm):
                return arm
        raise ValueError(f"No valid arm in {MOST_DRAWS:,} draws.")

    @functools.cached_property
    def _labels(self) -> dict[str, list[list[str]]]:
        return {
            slot: [[option.label for option in options if option.group == group] for group in groups(options)]
            for slot, options in self.slots.items()
        }

    def content(self) -> dict[str, list[str]]:
        """Return the labels of each slot."""
        return {slot: [option.label for option in options] for slot, options in self.slots.items()}

    def restricted(self, content: Mapping[str, Sequence[str]]) -> Space:
        """Return the space with only the slots and options of `content`. The other slots have their first option.

        Raises:
            KeyError: an option in `content` is not in this space.
        """
        slots = {slot: tuple(self._options[slot, label] for label in labels) for slot, labels in content.items()}
        others = {slot: options[0].label for slot, options in self.slots.items() if slot not in slots}
        needs = {slot: other for slot, other in self.needs.items() if slot in slots and other in slots}
        return Space(slots, lambda arm: self.is_valid({**others, **arm}), needs)


def groups(options: tuple[Option, ...]) -> list[str]:
    """Return the groups of a slot's options, in their order."""
    return list(dict.fromkeys(option.group for option in options))


def _drawn(by_group: Sequence[Sequence[str]], rng: np.random.Generator) -> str:
    of_group = by_group[int(rng.integers(len(by_group)))]
    return of_group[int(rng.integers(len(of_group)))]
