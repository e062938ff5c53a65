"""Match the classes of a dataset to the classes of a model by name. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranger21.system.errors import UserError
from ranger21.system.wording import first_few

AMONG = ("all", "present")


@dataclass(frozen=True)
class ClassMatch:
    """The correspondence between the classes of a dataset and those of a model.

    Attributes:
        places: The index among the model's classes of each class of the dataset.
        of: Number of classes of the model.
        sentence: A description of the match for the user.
    """

    places: list[int]
    of: int
    sentence: str

    def order(self, among: str = "all") -> list[int]:
        """Return the model's class indices in the order of the dataset's labels.

        Args:
            among: "all" appends the model's other classes; "present" does not.
        """
        found = set(self.places)
        return self.places + ([place for place in range(self.of) if place not in found] if among == "all" else [])


def match(known: Sequence[str], wanted: Sequence[str], model: str, data: str) -> ClassMatch:
    """Find each class of the dataset among the classes of the model.

    If the dataset's folders are numbers and the model's class names are not, as in ImageNet-V2 (0 ... 999), each number
    is an index into the model's classes.

    Args:
        known: The model's classes, in the order of its outputs.
        wanted: The dataset's classes.
        model: Name of the model in messages.
        data: Name of the dataset in messages.

    Raises:
        UserError: If the model lacks some of the classes; the message names the first few.
    """
    index = {name: place for place, name in enumerate(known)}
    unknown = [name for name in wanted if name not in index]
    if not unknown:
        counts = f"{len(wanted)} of {len(wanted)} classes of {data}"
        return ClassMatch(
            [index[name] for name in wanted], len(known), f"{counts} are among the {len(known)} of {model}, by name."
        )
    if all(map(is_number, wanted)) and not any(map(is_number, known)):
        return _by_number(known, wanted, model, data)
    if len(unknown) == len(wanted):
        how_many = f"None of the {len(wanted)} classes of {data} is"
    else:
        how_many = f"{len(unknown)} of the {len(wanted)} classes of {data} {'is' if len(unknown) == 1 else 'are'} not"
    raise UserError(
        f"{how_many} among the {len(known)} of {model}: {first_few(unknown)}. The model has {first_few(known)}. Rename "
        "the folders to the model's class names, or select the classes that it has with data.classes."
    )


def match_by_position(count: int, wanted: Sequence[str], model: str, data: str) -> ClassMatch:
    """Match the n-th class of the dataset, in alphabetical order, to the n-th class of the model.

    Args:
        count: Number of classes of the model.
        wanted: The dataset's classes.
        model: Name of the model in messages.
        data: Name of the dataset in messages.

    Raises:
        UserError: If the numbers of classes differ.
    """
    if count != len(wanted):
        raise UserError(f"--by-position cannot be used: {model} has {count} classes, but {data} has {len(wanted)}.")
    text = f"The {count} classes of {data} are matched to those of {model} by position, regardless of their names."
    return ClassMatch(list(range(count)), count, text)


def _by_number(known: Sequence[str], wanted: Sequence[str], model: str, data: str) -> ClassMatch:
    places = [int(name) for name in wanted]
    beyond = [name for name in wanted if int(name) >= len(known)]
    if beyond:
        verb = "is" if len(beyond) == 1 else "are"
        raise UserError(
            f"The folders of {data} are numbers, and {first_few(beyond)} {verb} beyond the {len(known)} classes of "
            f"{model}, which are numbered from 0."
        )
    if len(set(places)) < len(places):
        raise UserError(f"Several folders of {data} have the same number: {first_few(sorted(wanted, key=int))}.")
    text = (
        f"{len(wanted)} of {len(wanted)} classes of {data} are numbers, unlike the class names of {model}: number n "
        f"stands for class n of its {len(known)}, counted from 0."
    )
    return ClassMatch(places, len(known), text)


def require_same_classes(before: list[str] | None, now: list[str], run: Path) -> None:
    """Raise a UserError if a resumed run would not have the same classes as before.

    Args:
        before: The classes that the run recorded; None if it recorded none.
        now: The classes of the data.
        run: The run directory.
    """
    if before is None or before == now:
        return
    gone, new = ([name for name in one if name not in other] for one, other in ((before, now), (now, before)))
    parts = [f"{what} {first_few(names)}" for what, names in (("it had", gone), ("now there are", new)) if names]
    raise UserError(
        f"{run} was started with different classes: {'; '.join(parts) or 'the same names in a different order'}. "
        "Resume it with its original data, or start another run with run_dir=."
    )


def is_number(name: str) -> bool:
    """Return whether a name consists of ASCII digits."""
    return name.isascii() and name.isdecimal()
