"""What every part of the configuration is checked with."""

import math
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ranger21.system.errors import UserError

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
    span = f"{'above' if open_low else 'at least'} {low:g}"
    span += "" if high >= FLOAT32 else f" and below {high:,}" if isinstance(high, int) else f" and below {high:g}"
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
    for name in values.keys() & hints.keys():
        value, hint = values[name], hints[name]
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        for kind, what in KINDS.items():
            if kind in [get_origin(one) or one for one in kinds] and not (value is None and type(None) in kinds):
                also = " or null" if type(None) in kinds else ""
                require(FITS[kind](value), f"{prefix}{name}", value, what + also)


def _number(value: Any) -> bool:
    try:
        return not isinstance(value, bool | None) and isinstance(float(value), float)
    except (TypeError, ValueError, OverflowError):
        return False


KINDS = {
    bool: "true or false",
    int: "a whole number, written out",
    float: "a number",
    str: "text",
    list: "a list, such as [a,b]",
    dict: "a mapping, such as {a:b}",
}
FITS: dict[type, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: bool(re.fullmatch(r"[+-]?\d+", str(value))),
    float: _number,
    str: lambda value: value is not None and not isinstance(value, list | dict),
    list: lambda value: isinstance(value, list),
    dict: lambda value: isinstance(value, dict),
}
