"""Shared validators of configuration values."""

import math
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ranger21.system.errors import UserError

FLOAT32 = 3.4e38  # upper limit of numbers that tensors hold
COUNT = 2**31  # upper limit of counts, such as images and steps
# Metadata of fields. NEUTRAL: the field does not change a run's result. NAMED: it changes the result by rounding, or by
# drawing other random numbers of the same kind (measured: docs/compare.md). Neither belongs to a run's identity, but
# compare.py reports NAMED fields in which runs differ.
NEUTRAL = {"neutral": True}
NAMED = NEUTRAL | {"named": True}


def require(condition: bool, key: str, value: Any, what: str) -> None:
    """Raise a UserError, which says that the value of `key` must be `what`, unless the condition holds."""
    if not condition:
        raise UserError(f"{key}={value} is invalid: it must be {what}.")


def require_choice(key: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise a UserError unless the value is one of the choices."""
    require(value in choices, key, value, f"one of {', '.join(choices)}")


def require_number(key: str, value: float, low: float, high: float = FLOAT32, *, open_low: bool = False) -> None:
    """Raise a UserError unless `low` <= value < `high`; with `open_low`, unless `low` < value < `high`."""
    above = value > low if open_low else value >= low
    span = f"{'above' if open_low else 'at least'} {low:g}"
    span += "" if high >= FLOAT32 else f" and below {high:,}" if isinstance(high, int) else f" and below {high:g}"
    require(math.isfinite(value) and above and value < high, key, value, f"a number {span}")


def require_path(key: str, value: str) -> str:
    """Return the path with `~` expanded. Raises a UserError if it is empty, which would mean the current folder."""
    require(bool(value.strip()) and "\0" not in value, key, repr(value), "a path; . is the current folder")
    try:
        return str(Path(value).expanduser())
    except RuntimeError as error:
        raise UserError(f"{key}={value} is invalid: this home folder does not exist.") from error


def require_types(cls: type, values: dict[str, Any], prefix: str = "") -> None:
    """Raise a UserError for values that OmegaConf would convert silently (2 to true, 1.5 to 1) or fail on (nan).

    Args:
        cls: the dataclass with the fields' types.
        values: the values as read; those without a field are ignored.
        prefix: the prefix of the fields' keys, for the message.
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
