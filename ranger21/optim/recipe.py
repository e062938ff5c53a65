"""Recipes: ordered ingredients, read from `parts` and checked for conflicts and for their order."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from ranger21.optim.ingredients import INGREDIENTS, LATE_STATE
from ranger21.optim.ingredients.base import Ingredient, Place

KINDS = ("matrices", "vectors")  # tensors with two or more axes and units of more than one element; all others
MOMENTS = (Place.FIRST_MOMENT, Place.SECOND_MOMENT)


@dataclass(frozen=True)
class Recipe:
    """The ingredients of a chain, in the order in which they act.

    Raises:
        ValueError: If two ingredients exclude each other or are in the wrong order; the message names them.
    """

    ingredients: tuple[Ingredient, ...]

    def __post_init__(self) -> None:
        roles: dict[str, Ingredient] = {}
        for one in self.ingredients:
            other = roles.get(one.role)
            if other is not None:
                raise ValueError(f"{other.name} and {one.name} clash: a chain can have only one {one.role}.")
            if one.role:
                roles[one.role] = one
        self._check_order()
        for one in self.ingredients:
            one.check(self.ingredients)

    def _check_order(self) -> None:
        last = self._moments_end - 1
        for i, one in enumerate(self.ingredients):
            if one.place == Place.GRADIENT and -1 < last < i:
                raise ValueError(
                    f"{one.name} has no effect after {self.ingredients[last].name}; move it before that one."
                )
            if one.place == Place.CORRECTION:
                corrected = any(other.place == Place.SECOND_MOMENT for other in self.ingredients[:i])
                if i != last + 1 or not corrected:
                    raise ValueError(f"{one.name} corrects second_moment; put it directly after the moments.")
            if one.place == Place.UPDATE and i <= last:
                raise ValueError(f"{one.name} acts on the update; put it after {self.ingredients[last].name}.")
            late = [other for other in self.ingredients[:i] if other.place >= Place.WEIGHTS and other.place > one.place]
            if late:
                raise ValueError(f"{one.name} cannot come after {late[0].name}; move it before that one.")

    @cached_property
    def _moments_end(self) -> int:
        return max((i + 1 for i, one in enumerate(self.ingredients) if one.place in MOMENTS), default=0)

    @cached_property
    def on_gradient(self) -> tuple[Ingredient, ...]:
        """Ingredients that act on the gradient: all up to the last moment or the last ingredient for gradients."""
        of_gradients = [i + 1 for i, one in enumerate(self.ingredients) if one.place <= Place.CORRECTION]
        return self.ingredients[: max(of_gradients, default=0)]

    @cached_property
    def on_update(self) -> tuple[Ingredient, ...]:
        """Ingredients that act on the update: the moments (first before second), then those after the moments."""
        moments = [one for one in self.on_gradient if one.place in (*MOMENTS, Place.CORRECTION)]
        rest = [one for one in self.ingredients[len(self.on_gradient) :] if one.place < Place.WEIGHTS]
        return (*sorted(moments, key=lambda one: one.place), *rest)

    @cached_property
    def on_weights(self) -> tuple[Ingredient, ...]:
        """Ingredients that decay the weights."""
        return tuple(one for one in self.ingredients if one.place == Place.WEIGHTS)

    @cached_property
    def after(self) -> tuple[Ingredient, ...]:
        """Ingredients that act after the step."""
        return tuple(one for one in self.ingredients if one.place == Place.AFTER_THE_STEP)

    @cached_property
    def keeps(self) -> dict[str, Ingredient]:
        """Names of the state tensors, each with the ingredient that owns it."""
        return {name: one for one in self.ingredients for name in one.keeps}

    @cached_property
    def drops(self) -> set[str]:
        """Names of state tensors to delete: those of switched-off ingredients that restart when switched on again."""
        return LATE_STATE - self.keeps.keys()

    @cached_property
    def keeps_gradient(self) -> bool:
        """Whether the gradient is needed after the moments are updated."""
        first = any(one.place == Place.FIRST_MOMENT for one in self.ingredients)
        return not first or any(one.uses_gradient for one in self.ingredients)


def read(described: Iterable[Any]) -> Recipe:
    """Return the recipe of a list of descriptions: each is a name, or a mapping with a name and arguments.

    Raises:
        ValueError: If an ingredient or an argument does not exist, a value is out of range, or ingredients clash.
    """
    if isinstance(described, str | Mapping) or not isinstance(described, Iterable):
        raise ValueError(f"{described!r} is not a list of ingredients, such as [agc,first_moment,second_moment,decay].")
    return Recipe(tuple(map(_read, described)))


def _read(item: Any) -> Ingredient:
    if isinstance(item, Ingredient):
        if INGREDIENTS.get(item.name) is not type(item):  # a description has only the name, and means the listed class
            raise ValueError(
                f"Unknown ingredient {type(item).__name__}. Put the class in a file of its own in "
                "ranger21/optim/ingredients, with a `name` that no other ingredient has."
            )
        return item
    arguments = {"name": item} if isinstance(item, str) else dict(item) if isinstance(item, Mapping) else {}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in INGREDIENTS:
        raise ValueError(f"Unknown ingredient {name or item!r}. Available ingredients: {', '.join(INGREDIENTS)}.")
    known = [field.name for field in fields(INGREDIENTS[name])]
    unknown = [key for key in arguments if key not in known]
    if unknown:
        has = f"It has {', '.join(known)}" if known else "It has no arguments"
        raise ValueError(f"{name}: unknown argument {unknown[0]!r}. {has}.")
    return INGREDIENTS[name](**arguments)


def describe(parts: Any) -> Any:
    """Return the description of `parts` that a checkpoint stores: names and arguments, with all defaults written out.

    Args:
        parts: A recipe, a list that `read` accepts, or a mapping with one of these for each of `KINDS`.

    Raises:
        ValueError: If `read` raises it, or if the keys of a mapping are not "matrices" and "vectors".
    """
    if isinstance(parts, Mapping):
        if set(parts) != set(KINDS):
            keys = ", ".join(map(str, parts))
            raise ValueError(f"parts must be a list, or a mapping with the keys {' and '.join(KINDS)}, not {keys}.")
        return {kind: describe(parts[kind]) for kind in KINDS}
    chain = parts if isinstance(parts, Recipe) else read(parts)
    return [{"name": one.name, **asdict(one)} for one in chain.ingredients]
