"""The ingredients of a chain: read from `parts`, and checked for what can be together, in which order."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from ranger21.optim.ingredients import INGREDIENTS, LATE
from ranger21.optim.ingredients.base import Ingredient, Place

KINDS = ("matrices", "vectors")  # tensors whose units have more than one element, and the others
MOMENTS = (Place.FIRST_MOMENT, Place.SECOND_MOMENT)


@dataclass(frozen=True)
class Recipe:
    """Ingredients in the order in which they act.

    Raises:
        ValueError: two ingredients that clash, or that cannot be in this order, naming them.
    """

    ingredients: tuple[Ingredient, ...]

    def __post_init__(self) -> None:
        roles: dict[str, Ingredient] = {}
        for one in self.ingredients:
            other = roles.get(one.role)
            if other is not None:
                raise ValueError(f"{other.name} and {one.name} clash: a chain has one {one.role} at most.")
            if one.role:
                roles[one.role] = one
        self._check_order()
        for one in self.ingredients:
            one.check(self.ingredients)

    def _check_order(self) -> None:
        last = self._moments_end - 1
        for i, one in enumerate(self.ingredients):
            if one.place == Place.GRADIENT and -1 < last < i:
                raise ValueError(f"{one.name} after {self.ingredients[last].name} would act on nothing: put it before.")
            if one.place == Place.CORRECTION:
                corrected = any(other.place == Place.SECOND_MOMENT for other in self.ingredients[:i])
                if i != last + 1 or not corrected:
                    raise ValueError(f"{one.name} corrects second_moment: put it right after the moments.")
            if one.place == Place.UPDATE and i <= last:
                raise ValueError(f"{one.name} acts on the update: put it after {self.ingredients[last].name}.")
            late = [other for other in self.ingredients[:i] if other.place >= Place.WEIGHTS and other.place > one.place]
            if late:
                raise ValueError(f"{one.name} cannot come after {late[0].name}: put it before.")

    @cached_property
    def _moments_end(self) -> int:
        return max((i + 1 for i, one in enumerate(self.ingredients) if one.place in MOMENTS), default=0)

    @cached_property
    def on_gradient(self) -> tuple[Ingredient, ...]:
        """Those that act on the gradient: the ones up to the last moment, or, without moments, made for gradients."""
        of_gradients = [i + 1 for i, one in enumerate(self.ingredients) if one.place <= Place.CORRECTION]
        return self.ingredients[: max(of_gradients, default=0)]

    @cached_property
    def on_update(self) -> tuple[Ingredient, ...]:
        """Those that act on the update: the moments, a first one before a second, and the ones after them."""
        moments = [one for one in self.on_gradient if one.place in (*MOMENTS, Place.CORRECTION)]
        rest = [one for one in self.ingredients[len(self.on_gradient) :] if one.place < Place.WEIGHTS]
        return (*sorted(moments, key=lambda one: one.place), *rest)

    @cached_property
    def on_weights(self) -> tuple[Ingredient, ...]:
        """Those that decay the weights."""
        return tuple(one for one in self.ingredients if one.place == Place.WEIGHTS)

    @cached_property
    def after(self) -> tuple[Ingredient, ...]:
        """Those that act after the step."""
        return tuple(one for one in self.ingredients if one.place == Place.AFTER_THE_STEP)

    @cached_property
    def keeps(self) -> dict[str, Ingredient]:
        """The names of the state tensors, and whose they are."""
        return {name: one for one in self.ingredients for name in one.keeps}

    @cached_property
    def drops(self) -> set[str]:
        """The names of state tensors of ingredients that are switched off, and begin anew when they are on again."""
        return LATE - self.keeps.keys()

    @cached_property
    def keeps_gradient(self) -> bool:
        """Whether the gradient is needed after the moments have it."""
        first = any(one.place == Place.FIRST_MOMENT for one in self.ingredients)
        return not first or any(one.uses_gradient for one in self.ingredients)


def read(described: Iterable[Any]) -> Recipe:
    """Return the recipe that is described: of each ingredient its name, or a mapping with its name and arguments.

    Raises:
        ValueError: an ingredient or an argument that is not there, a value out of its range, ingredients that clash.
    """
    if isinstance(described, str | Mapping) or not isinstance(described, Iterable):
        raise ValueError(f"{described!r} is not a list of parts, such as [agc,first_moment,second_moment,decay].")
    return Recipe(tuple(map(_read, described)))


def _read(item: Any) -> Ingredient:
    if isinstance(item, Ingredient):
        if INGREDIENTS.get(item.name) is not type(item):  # a description, which has names only, would be of another
            raise ValueError(
                f"There is no part {type(item).__name__}: put its class, with a name of its own, in a file "
                "of ranger21/optim/ingredients."
            )
        return item
    arguments = {"name": item} if isinstance(item, str) else dict(item) if isinstance(item, Mapping) else {}
    name = arguments.pop("name", None)
    if not isinstance(name, str) or name not in INGREDIENTS:
        raise ValueError(f"There is no part {name or item!r}; a chain is made of {', '.join(INGREDIENTS)}.")
    known = [field.name for field in fields(INGREDIENTS[name])]
    unknown = [key for key in arguments if key not in known]
    if unknown:
        has = f"has {', '.join(known)}" if known else "takes none"
        raise ValueError(f"{name}: there is no argument {unknown[0]!r}; it {has}.")
    return INGREDIENTS[name](**arguments)


def describe(parts: Any) -> Any:
    """Return the description (`parts`) of a recipe, or of one for matrices and one for vectors: names and numbers only.

    Raises:
        ValueError: as `read` does; a mapping of other kinds than "matrices" and "vectors".
    """
    if isinstance(parts, Mapping):
        if set(parts) != set(KINDS):
            raise ValueError(f"parts are a list, or a mapping of {' and '.join(KINDS)}, and not of {', '.join(parts)}.")
        return {kind: describe(parts[kind]) for kind in KINDS}
    chain = parts if isinstance(parts, Recipe) else read(parts)
    return [{"name": one.name, **asdict(one)} for one in chain.ingredients]
