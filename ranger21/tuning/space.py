"""Search spaces: configs/space/OPTIMIZER.yaml, which says of each dimension what a trial may take. Imports no torch.

optimizer.lr: {low: 1e-4, high: 1e-1}       # uniform in the logarithm
optimizer.lookahead_k: [5, 10]              # one of these values of a key of train.py
warmup: [0, 5%, 22%]                        # no key: what follows names it in braces
schedule:                                   # each choice with the arguments of train.py that make it
  constant: [schedule=constant, "schedule.linear_warmup={warmup}"]
  cosine: [schedule=cosine, "schedule.linear_warmup={warmup}"]
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ranger21.config.groups import SPACE
from ranger21.system.errors import UserError
from ranger21.system.project import CONFIG_DIR
from ranger21.system.reading import read_yaml
from ranger21.system.wording import first_few
from ranger21.tuning.points import DIMENSIONS, Point

SPACES = CONFIG_DIR / SPACE
COLUMNS = ("optimizer.lr", "optimizer.weight_decay", "warmup", "schedule")  # of the points; others follow by name
PARTS = ("optimizer.", "schedule=", "schedule.", "lr_scaling=", "lr_scaling.")  # of a run that a space may choose
NAMED = re.compile(r"\{([\w.]+)\}")
DIGITS = 4  # of a number that a trial takes


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, uniform in the logarithm."""

    low: float
    high: float

    def at(self, part: float) -> float:
        """The number at a part in [0, 1) of the range, rounded to four digits, which is what the trial takes."""
        return float(f"{self.low * (self.high / self.low) ** part:.{DIGITS}g}")

    def content(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Choice:
    """Some labels, each with the arguments of train.py that make it."""

    options: Mapping[str, tuple[str, ...]]

    def at(self, part: float) -> str:
        """The label at a part in [0, 1): each has as much of it."""
        return list(self.options)[int(part * len(self.options))]

    def content(self) -> dict[str, list[str]]:
        return {label: list(overrides) for label, overrides in self.options.items()}


Dimension = Range | Choice
Value = float | str


@dataclass(frozen=True)
class Space:
    """An optimizer's search space: its dimensions by name.

    Attributes:
        optimizer: what `optimizer=` chooses.
        dimensions: of the trials' values.
    """

    optimizer: str
    dimensions: Mapping[str, Dimension]

    @property
    def hash(self) -> str:
        """A hash of what the space holds, whatever the order of its dimensions."""
        # As pairs: the order of the choices says which point takes which.
        content = {name: list(one.content().items()) for name, one in self.dimensions.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def content(self) -> dict[str, Any]:
        """The space as its file says it, with the choices' arguments written out."""
        return {name: one.content() for name, one in self.dimensions.items()}

    def values(self, point: Point) -> dict[str, Value]:
        """What a trial at this point of the unit cube takes, by dimension. A dimension has its column by its name."""
        ordered = [name for name in COLUMNS if name in self.dimensions]
        others = sorted(set(self.dimensions) - set(COLUMNS))
        columns = {name: COLUMNS.index(name) for name in ordered}
        columns |= {name: len(COLUMNS) + index for index, name in enumerate(others)}
        return {name: one.at(point[columns[name]]) for name, one in self.dimensions.items()}

    def overrides(self, values: Mapping[str, Value]) -> tuple[str, ...]:
        """The arguments of train.py that a trial's values mean, after `optimizer=…`."""
        words: list[str] = []
        for name, one in self.dimensions.items():
            words += [f"{name}={values[name]!r}"] if isinstance(one, Range) else one.options[str(values[name])]
        named = {f"{{{name}}}": str(value) for name, value in values.items()}
        return tuple(NAMED.sub(lambda match: named[match[0]], word) for word in words)

    def sets(self) -> set[str]:
        """The keys of train.py that a trial sets."""
        keys: set[str] = set()
        for name, one in self.dimensions.items():
            words = (name,) if isinstance(one, Range) else itertools.chain.from_iterable(one.options.values())
            keys |= {word.partition("=")[0].lstrip("+~") for word in words}
        return keys

    def widened(self, name: str, side: str) -> "Space":
        """The space with ten times as much of one of its ranges: below for the side "low", above for "high"."""
        one = self.dimensions[name]
        if not isinstance(one, Range):
            raise ValueError(f"{name} is no range.")
        wide = replace(one, low=_round(one.low / 10)) if side == "low" else replace(one, high=_round(one.high * 10))
        return replace(self, dimensions={**self.dimensions, name: wide})


def read_space(optimizer: str, folder: Path = SPACES) -> Space:
    """Read an optimizer's space. Raises a UserError for one that does not exist or cannot be."""
    path = folder / f"{optimizer}.yaml"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if optimizer not in names:
        known = ", ".join(names)
        raise UserError(
            f"optimizer={optimizer} has no search space: there are those of {known}. Write {path}, as theirs are."
        )
    found = read_yaml(path, cure="correct it")
    try:
        dimensions = {str(name): _dimension(str(name), value) for name, value in found.items()}
        _require_whole(dimensions, {str(name) for name, value in found.items() if isinstance(value, list)})
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    named = {name for one in dimensions.values() if isinstance(one, Choice) for name in _named(one)}
    for name in named:  # it stands where it is named
        dimensions[name] = Choice(dict.fromkeys(_choice(dimensions[name]).options, ()))
    return Space(optimizer, dimensions)


def _dimension(name: str, value: Any) -> Dimension:
    if isinstance(value, list):
        texts = [_text(one) for one in value]
        if len(set(texts)) < max(2, len(texts)):
            raise ValueError(f"{name} needs two different values at least, and none of them twice.")
        return Choice({text: (f"{name}={text}",) for text in texts})
    if isinstance(value, dict) and set(value) == {"low", "high"}:
        return _range(name, value)
    if isinstance(value, dict) and len(value) > 1 and all(isinstance(words, list) for words in value.values()):
        return Choice({str(label): tuple(_word(name, word) for word in words) for label, words in value.items()})
    raise ValueError(
        f"{name} is none of what a dimension can be: {{low: 1e-4, high: 1e-1}}, a list of values, or two choices at "
        "least, each with a list of arguments of train.py."
    )


def _range(name: str, value: dict[str, Any]) -> Range:
    low, high = value["low"], value["high"]
    if not all(
        isinstance(end, int | float) and not isinstance(end, bool) and 0 < end < math.inf for end in (low, high)
    ):
        raise ValueError(
            f"{name}: low={low} and high={high} must be numbers above 0, as it is the logarithm that is uniform."
        )
    if low >= high:
        raise ValueError(f"{name}: low={low} must be below high={high}.")
    _word(name, f"{name}={low}")
    return Range(float(low), float(high))


def _word(name: str, word: Any) -> str:
    if not isinstance(word, str) or "=" not in word or not word.lstrip("+~").startswith(PARTS):
        raise ValueError(
            f"{name}: {word!r} is not possible: a space chooses {', '.join(PARTS)} and nothing else of a run."
        )
    return word


def _require_whole(dimensions: Mapping[str, Dimension], lists: set[str]) -> None:
    """Raise a ValueError for too few or too many dimensions, and for names that nothing uses or nothing explains."""
    choices = {name: one for name, one in dimensions.items() if isinstance(one, Choice)}
    named = {inner: name for name, one in choices.items() if name not in lists for inner in _named(one)}
    if unknown := sorted(set(named) - lists):
        raise ValueError(f"{named[unknown[0]]} names {{{unknown[0]}}}, which has no list of values here.")
    for name in sorted(lists - set(named)):
        if not f"{name}=".startswith(PARTS):
            raise ValueError(f"{name} is no key that a space may choose, and no choice names it as {{{name}}}.")
    others = [name for name in dimensions if name not in COLUMNS]
    if not dimensions or len(others) > DIMENSIONS - len(COLUMNS):
        raise ValueError(
            f"it has {len(dimensions)} dimensions: one is the least, and besides {', '.join(COLUMNS)} it can have "
            f"{DIMENSIONS - len(COLUMNS)}, not {first_few(others)}."
        )


def _named(choice: Choice) -> set[str]:
    return {name for words in choice.options.values() for word in words for name in NAMED.findall(word)}


def _choice(dimension: Dimension) -> Choice:
    assert isinstance(dimension, Choice)
    return dimension


def _text(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def _round(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
