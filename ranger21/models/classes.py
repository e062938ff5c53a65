"""Which class of a model each class of a data set is: by name, not by its place among the others. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

AMONG = ("all", "present")


@dataclass(frozen=True)
class Match:
    """The classes of a data set among those of a model.

    Attributes:
        places: of each class of the data, its index among the model's.
        of: how many classes the model has.
        sentence: how many were matched, and by what.
    """

    places: list[int]
    of: int
    sentence: str

    def order(self, among: str = "all") -> list[int]:
        """The model's indices in the order of the data's labels; with `all`, its other classes come after them."""
        found = set(self.places)
        return self.places + ([place for place in range(self.of) if place not in found] if among == "all" else [])


def match(known: Sequence[str], wanted: Sequence[str], model: str, data: str) -> Match:
    """Find every class of the data (`wanted`) among the model's (`known`, in the order of its outputs).

    Where the folders of the data are numbers and the names of the model are not, as ImageNet-V2's folders 0 ... 999, a
    number is the index into the model's classes. `model` and `data` are what the two are called in sentences.

    Raises a UserError that names the first few classes that the model does not know.
    """
    index = {name: place for place, name in enumerate(known)}
    unknown = [name for name in wanted if name not in index]
    if not unknown:
        counts = f"{len(wanted)} of {len(wanted)} classes of {data}"
        return Match(
            [index[name] for name in wanted], len(known), f"{counts} are among the {len(known)} of {model}, by name."
        )
    if all(map(is_number, wanted)) and not any(map(is_number, known)):
        return _by_number(known, wanted, model, data)
    if len(unknown) == len(wanted):
        how_many = f"None of the {len(wanted)} classes of {data} is"
    else:
        how_many = f"{len(unknown)} of the {len(wanted)} classes of {data} {'is' if len(unknown) == 1 else 'are'} not"
    raise UserError(
        f"{how_many} among the {len(known)} of {model}: {first_few(unknown)}. It has {first_few(known)}. Give "
        "the folders the names that it has, or choose with data.classes those that it knows."
    )


def match_by_position(count: int, wanted: Sequence[str], model: str, data: str) -> Match:
    """Take the n-th class of the data, in alphabetical order, for the model's n-th.

    Raises a UserError if there are more or fewer.
    """
    if count != len(wanted):
        raise UserError(f"--by-position is not possible: {model} has {count} classes, and {data} has {len(wanted)}.")
    text = f"The {count} classes of {data} are taken for those of {model} by position, whatever their names."
    return Match(list(range(count)), count, text)


def _by_number(known: Sequence[str], wanted: Sequence[str], model: str, data: str) -> Match:
    places = [int(name) for name in wanted]
    beyond = [name for name in wanted if int(name) >= len(known)]
    if beyond:
        verb = "is" if len(beyond) == 1 else "are"
        raise UserError(
            f"The folders of {data} are numbers, and {first_few(beyond)} {verb} beyond the {len(known)} classes of "
            f"{model}, which are counted from 0."
        )
    if len(set(places)) < len(places):
        raise UserError(f"Several folders of {data} are the same number: {first_few(sorted(wanted, key=int))}.")
    text = (
        f"{len(wanted)} of {len(wanted)} classes of {data} are numbers, which the names of {model} are not: number n "
        f"is taken for its class n of {len(known)}, counted from 0."
    )
    return Match(places, len(known), text)


def require_same_classes(before: list[str] | None, now: list[str], run: Path) -> None:
    """Raises a UserError if a run would go on with other classes than it began with; None: it did not record them."""
    if before is None or before == now:
        return
    gone, new = ([name for name in one if name not in other] for one, other in ((before, now), (now, before)))
    parts = [f"{what} {first_few(names)}" for what, names in (("it had", gone), ("now there are", new)) if names]
    raise UserError(
        f"{run} was begun with other classes: {'; '.join(parts) or 'the same names in another order'}. Give it the "
        "data that it was begun with, or begin another run with run_dir=."
    )


def is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()
