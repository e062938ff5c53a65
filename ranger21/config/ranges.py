"""Fields with a range of `ranger21.optim.ranges`, as in `eps: Annotated[float, EPS]`. Imports no torch."""

from typing import Any, TypeVar, get_type_hints

from ranger21.optim.ranges import Range
from ranger21.system.checks import FLOAT32, require

Mark = TypeVar("Mark")


def marked(cls: type, mark: type[Mark]) -> dict[str, Mark]:
    """Return the fields of a dataclass that are annotated with a mark of this type, each with its mark."""
    hints = get_type_hints(cls, include_extras=True).items()
    found = {name: [one for one in getattr(hint, "__metadata__", ()) if isinstance(one, mark)] for name, hint in hints}
    return {name: marks[0] for name, marks in found.items() if marks}


def require_ranges(part: Any, prefix: str) -> None:
    """Raise a UserError that names the first field out of its range, or too large for float32, which tensors hold.

    Args:
        part: A dataclass.
        prefix: The prefix of the fields' keys, such as "optimizer".
    """
    for name, range in marked(type(part), Range).items():
        value = getattr(part, name)
        require(range.has(value) and _fits(value), f"{prefix}.{name}", value, range.words.replace("None", "null"))


def _fits(value: Any) -> bool:
    return not isinstance(value, float) or abs(value) < FLOAT32
