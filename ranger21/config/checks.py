"""What every part of the configuration is checked with."""

import math
from typing import Any

from ranger21.errors import UserError

NEUTRAL = {"neutral": True}  # metadata of a field that does not change the result of a run


def require(condition: bool, key: str, value: Any, what: str) -> None:
    if not condition:
        raise UserError(f"{key}={value} is not possible: it must be {what}.")


def require_choice(key: str, value: Any, choices: tuple[str, ...]) -> None:
    require(value in choices, key, value, f"one of {', '.join(choices)}")


def require_number(key: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """`low` <= value < `high`, or `low` < value < `high` with `open_low`."""
    above = value > low if open_low else value >= low
    span = f"{'above' if open_low else 'at least'} {low:g}" + (f" and below {high:g}" if math.isfinite(high) else "")
    require(math.isfinite(value) and above and value < high, key, value, f"a number {span}")
