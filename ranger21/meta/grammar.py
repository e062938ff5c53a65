"""The chains that the ingredients permit. What exists, its place, and what clashes is read from the ingredients."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from ranger21.meta.space import NONE, Arm, Option
from ranger21.optim.ingredients import ALL
from ranger21.optim.ingredients.base import Ingredient, Place
from ranger21.optim.recipe import KINDS, MOMENTS, Recipe
from ranger21.system.errors import UserError

GRADIENT, UPDATE = "gradient", "update"
DECAY = "decay"  # the role of the ingredients that use the weight decay


@dataclass(frozen=True)
class Variant:
    """An ingredient with arguments, at a position in the chain.

    Attributes:
        on: GRADIENT or UPDATE for an ingredient that can act on either, else an empty string.
        changed: its arguments that differ from the defaults.
    """

    ingredient: Ingredient
    on: str
    changed: tuple[str, ...]

    @property
    def group(self) -> str:
        return f"{self.ingredient.name} of {self.on}" if self.on else self.ingredient.name

    @property
    def label(self) -> str:
        return " ".join((self.group, *self.changed))

    @property
    def rank(self) -> tuple[int, str]:
        """The sort key of the order in which ingredients act."""
        place = Place.GRADIENT if self.on == GRADIENT else self.ingredient.place
        return int(place), self.ingredient.name


@functools.cache
def variants() -> dict[str, dict[str, Variant]]:
    """Return the variants of each slot by their labels. Ingredients with the same role share a slot."""
    found: dict[str, dict[str, Variant]] = {}
    for kind in ALL:
        slot = found.setdefault(kind.role or kind.name, {})
        for one in _variants(kind):
            slot[one.label] = one
    return found


def _variants(kind: type[Ingredient]) -> Iterator[Variant]:
    names = [one.name for one in fields(kind)]
    tried = [one.metadata["tried"] for one in fields(kind)]
    for on in (GRADIENT, UPDATE) if kind.place == Place.ANYWHERE else ("",):
        for values in itertools.product(*tried):
            try:
                one = kind(**dict(zip(names, values, strict=True)))
            except ValueError as error:
                raise UserError(f"A value in `tried`, in ranger21/optim/ingredients, is invalid: {error}") from error
            yield Variant(one, on, tuple(f"{name}={_shown(value)}" for name, value in _changed(one).items()))


def _changed(one: Ingredient) -> dict[str, Any]:
    """Return the arguments of an ingredient that differ from the defaults."""
    return {field.name: value for field in fields(one) if (value := getattr(one, field.name)) != field.default}


def slots() -> dict[str, tuple[Option, ...]]:
    """Return the options of each slot of a chain, the empty one first and then the defaults of each ingredient."""
    return {
        slot: (
            Option(NONE, NONE),
            *sorted(
                (
                    Option(label, one.group, tuple(f"{one.group} {text}" for text in one.changed))
                    for label, one in of.items()
                ),
                key=lambda option: len(option.arguments) > 0,
            ),
        )
        for slot, of in variants().items()
    }


def chain(arm: Arm) -> tuple[Ingredient, ...]:
    """Return an arm's ingredients in the order in which they act."""
    chosen = [of[arm[slot]] for slot, of in variants().items() if arm[slot] != NONE]
    return tuple(one.ingredient for one in sorted(chosen, key=lambda one: one.rank))


def is_chain(arm: Arm) -> bool:
    """Return whether the ingredients permit an arm's chain.

    Without a moment there is no update other than the gradient, so an ingredient that can act on either acts on the
    update.
    """
    return _is_chain(tuple((slot, arm[slot]) for slot in variants()))


@functools.lru_cache(maxsize=100_000)
def _is_chain(key: tuple[tuple[str, str], ...]) -> bool:
    arm = dict(key)
    chosen = [of[arm[slot]] for slot, of in variants().items() if arm[slot] != NONE]
    has_moment = any(one.ingredient.place in MOMENTS for one in chosen)
    if any(one.on == GRADIENT for one in chosen) and not has_moment:
        return False
    try:
        parts(arm)
    except ValueError:
        return False
    return True


def parts(arm: Arm) -> Any:
    """Return `optimizer.parts` of an arm: a list, or one for matrices and one for vectors if some refuse vectors.

    Raises:
        ValueError: the ingredients do not permit the chain.
    """
    ingredients = Recipe(chain(arm)).ingredients
    of_vectors = Recipe(tuple(one for one in ingredients if not _refuses_vectors(one))).ingredients
    lists = [[_written(one) for one in some] for some in (ingredients, of_vectors)]
    return lists[0] if of_vectors == ingredients else dict(zip(KINDS, lists, strict=True))


def _written(one: Ingredient) -> Any:
    """Return an ingredient as a user writes it: its name, or a mapping with the arguments that are not defaults."""
    changed = _changed(one)
    return {"name": one.name, **changed} if changed else one.name


def _refuses_vectors(one: Ingredient) -> bool:
    try:
        one.check_param(torch.zeros(2))
    except ValueError:
        return True
    return False


def decays(arm: Arm) -> bool:
    """Return whether an arm's chain uses the weight decay."""
    return arm[DECAY] != NONE


def shown(ingredients: Sequence[Ingredient]) -> str:
    """Return a chain as text, such as `agc, pnm, second_moment, decay(stable=layer)`."""
    texts = []
    for one in ingredients:
        changed = [f"{name}={_shown(value)}" for name, value in _changed(one).items()]
        texts.append(f"{one.name}({', '.join(changed)})" if changed else one.name)
    return ", ".join(texts) or "no ingredient (plain gradient descent)"


def _shown(value: Any) -> str:
    """Return the value of an argument as a user writes it."""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value).strip('"')
