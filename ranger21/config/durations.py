"""Durations in steps, epochs, images or percent of the run. Imports no torch."""

import math
import re
from typing import NamedTuple

UNITS = {"": "steps", "%": "percent"} | {
    name: unit
    for unit in ("steps", "epochs", "images", "percent")
    for name in (unit, unit.rstrip("s") if unit != "percent" else unit)
}


class Duration(NamedTuple):
    """A length of time: a number of steps, epochs, images or percent of the run."""

    number: float
    unit: str


def parse(text: str | int | float) -> Duration:
    """Parse a duration such as "300", "300 steps", "5 epochs", "1.2e6 images" or "22%".

    Raises a ValueError that describes the form of a duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:_\d+)*(?:\.\d*)?(?:e\+?\d+)?|\.\d+)\s*([a-z]*|%)\s*", str(text).lower())
    unit = UNITS.get(match[2]) if match else None
    if match is None or unit is None or not math.isfinite(float(match[1])):
        raise ValueError("it must be a duration, such as 300 (steps), '5 epochs', '1.2e6 images' or '22%'.")
    number = float(match[1])
    if unit == "steps" and number != int(number):
        part = f"; a part of the run is written '{100 * number:g}%'" if number <= 1 else ""
        raise ValueError(f"it must be a whole number of steps{part}.")
    if unit == "percent" and number > 100:
        raise ValueError("it must be 100% at most.")
    return Duration(number, unit)
