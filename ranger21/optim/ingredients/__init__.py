"""The ingredients of optimizers, one per file. Every module in this folder is found automatically."""

import importlib
import pkgutil

from ranger21.optim.ingredients.base import Ingredient

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
_FOUND = {one for module in _MODULES for one in vars(module).values() if isinstance(one, type)}
ALL: tuple[type[Ingredient], ...] = tuple(
    sorted(
        (one for one in _FOUND if issubclass(one, Ingredient) and hasattr(one, "name")),
        key=lambda one: (one.place, one.name),
    )
)
INGREDIENTS: dict[str, type[Ingredient]] = {ingredient.name: ingredient for ingredient in ALL}
LATE_STATE = {name for ingredient in ALL if ingredient.may_start_late for name in ingredient().keeps}
