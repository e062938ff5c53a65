"""Check, on import by every script, that Python would import the package that belongs to the script."""

import importlib.util
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
OURS = (TOP / "ranger21", TOP.parent)  # the package in a clone, and in a wheel, where it contains the scripts


def amiss() -> str | None:
    """Return what is wrong with the package that Python would import and what to do; None if it is the right one."""
    found = importlib.util.find_spec("ranger21")
    place = Path(found.origin or "").resolve().parent if found else None
    if place in OURS:
        return None
    install = f"type {sys.executable} -m pip install -e {TOP}"
    if place is None:
        return f"ranger21 is not installed for {sys.executable}: {install}"
    return (
        f"This script belongs to {TOP}, but Python would import ranger21 from {place}, another clone or the "
        f"authors' package. Remove that package (pip uninstall ranger21 removes the authors'), then {install}"
    )


if wrong := amiss():
    sys.exit(f"error: {wrong}")
