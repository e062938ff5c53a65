"""What every part of the configuration is checked with."""

import math
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ranger21.errors import UserError

FLOAT32 = 3.4e38  # what tensors hold
COUNT = 2**31  # of images, steps and the like
# Metadata of a field: NEUTRAL changes nothing of a run's result; NAMED changes it by rounding, or draws other random
# numbers of the same kind (measured: docs/compare.md): no identity, but compare.py names it where runs differ in it.
NEUTRAL = {"neutral": True}
NAMED = NEUTRAL | {"named": True}


def require(condition: bool, key: str, value: Any, what: str) -> None:
    if not condition:
        raise UserError(f"{key}={value} is not possible: it must be {what}.")


def require_choice(key: str, value: Any, choices: tuple[str, ...]) -> None:
    require(value in choices, key, value, f"one of {', '.join(choices)}")


def require_number(key: str, value: float, low: float, high: float = FLOAT32, *, open_low: bool = False) -> None:
    """`low` <= value < `high`, or `low` < value < `high` with `open_low`."""
    above = value > low if open_low else value >= low
    span = f"{'above' if open_low else 'at least'} {low:g}" + (f" and below {high:g}" if high < FLOAT32 else "")
    require(math.isfinite(value) and above and value < high, key, value, f"a number {span}")


def require_path(key: str, value: str) -> str:
    """The path with `~` written out. An empty one would be the current folder."""
    require(bool(value.strip()) and "\0" not in value, key, repr(value), "a path, and . is the current folder")
    try:
        return str(Path(value).expanduser())
    except RuntimeError as error:
        raise UserError(f"{key}={value} is not possible: there is no such home folder.") from error


def require_types(cls: type, values: dict[str, Any], prefix: str = "") -> None:
    """Refuses what OmegaConf would convert in silence: 2 to true, 1.5 to 1, nan to a crash.

    Args:
        cls: the dataclass whose fields the values are for.
        values: as they were read; those without a field are passed over.
        prefix: of the fields' keys.
    """
    hints = get_type_hints(cls)
    for name, value in values.items():
        kinds = get_args(hints[name]) if get_origin(hints.get(name)) in (Union, types.UnionType) else (hints.get(name),)
        key = f"{prefix}{name}"
        if value is None and type(None) in kinds:
            continue
        if bool in kinds:
            require(isinstance(value, bool), key, value, "true or false")
        elif int in kinds:
            require(_whole(value), key, value, "a whole number" + (" or null" if type(None) in kinds else ""))
        elif float in kinds:
            require(_number(value), key, value, "a number" + (" or null" if type(None) in kinds else ""))


def _number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, int | float | str) and float(value) is not None
    except (ValueError, OverflowError):
        return False


def _whole(value: Any) -> bool:
    return _number(value) and math.isfinite(float(value)) and float(value) == int(float(value))
