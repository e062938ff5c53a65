"""Imported by every script: ends it with a sentence where Python would not import the package that belongs to it."""

import importlib.util
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
OURS = (TOP / "ranger21", TOP.parent)  # in a clone; in a wheel, whose package holds the scripts


def amiss() -> str | None:
    """Return what is wrong with the package that Python would import, and what to do; None if it is the right one."""
    found = importlib.util.find_spec("ranger21")
    place = Path(found.origin or "").resolve().parent if found else None
    if place in OURS:
        return None
    install = f"type {sys.executable} -m pip install -e {TOP}"
    if place is None:
        return f"ranger21 is not installed for {sys.executable}: {install}"
    return (
        f"This script belongs to {TOP}, but Python would import ranger21 from {place}, another clone or the "
        f"authors' package. Remove that one (pip uninstall ranger21 removes the authors'), then {install}"
    )


if wrong := amiss():
    sys.exit(f"error: {wrong}")
