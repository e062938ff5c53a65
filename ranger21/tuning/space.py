"""Search spaces, read from configs/space/OPTIMIZER.yaml. Imports no torch.

optimizer.lr: {low: 1e-4, high: 1e-1}       # log-uniform
optimizer.lookahead_k: [5, 10]              # values for a key of train.py
warmup: [0, 5%, 22%]                        # not a key of train.py: used below as {warmup}
schedule:                                   # choices, each with its arguments of train.py
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
COLUMNS = (
    "optimizer.lr",
    "optimizer.weight_decay",
    "warmup",
    "schedule",
)  # the dimensions that use the first columns of the points
PARTS = ("optimizer.", "schedule=", "schedule.", "lr_scaling=", "lr_scaling.")  # the arguments that a space may set
NAMED = re.compile(r"\{([\w.]+)\}")
DIGITS = 4  # significant digits of a trial's numbers


@dataclass(frozen=True)
class LogRange:
    """Numbers from `low` to `high`, uniform on a logarithmic scale."""

    low: float
    high: float

    def at(self, part: float) -> float:
        """Return the number at a coordinate in [0, 1), rounded to DIGITS significant digits."""
        return float(f"{self.low * (self.high / self.low) ** part:.{DIGITS}g}")

    def content(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Choice:
    """Labels, each with its arguments of train.py."""

    options: Mapping[str, tuple[str, ...]]

    def at(self, part: float) -> str:
        """Return the label at a coordinate in [0, 1), which the labels divide equally."""
        return list(self.options)[int(part * len(self.options))]

    def content(self) -> dict[str, list[str]]:
        return {label: list(overrides) for label, overrides in self.options.items()}


Dimension = LogRange | Choice
Value = float | str


@dataclass(frozen=True)
class Space:
    """An optimizer's search space.

    Attributes:
        optimizer: the name of the optimizer's config.
        dimensions: the dimensions by name.
    """

    optimizer: str
    dimensions: Mapping[str, Dimension]

    @property
    def hash(self) -> str:
        """A hash of the space that does not depend on the order of its dimensions."""
        # Pairs keep the order of choices, which decides what each point gets.
        content = {name: list(one.content().items()) for name, one in self.dimensions.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def content(self) -> dict[str, Any]:
        """Return the space as in its file, with the arguments of lists written out."""
        return {name: one.content() for name, one in self.dimensions.items()}

    def values(self, point: Point) -> dict[str, Value]:
        """Return the values of a trial at a point of the unit cube. A dimension's name determines its coordinate."""
        ordered = [name for name in COLUMNS if name in self.dimensions]
        others = sorted(set(self.dimensions) - set(COLUMNS))
        columns = {name: COLUMNS.index(name) for name in ordered}
        columns |= {name: len(COLUMNS) + index for index, name in enumerate(others)}
        return {name: one.at(point[columns[name]]) for name, one in self.dimensions.items()}

    def overrides(self, values: Mapping[str, Value]) -> tuple[str, ...]:
        """Return the arguments of train.py for a trial's values, to follow `optimizer=…`."""
        words: list[str] = []
        for name, one in self.dimensions.items():
            words += [f"{name}={values[name]!r}"] if isinstance(one, LogRange) else one.options[str(values[name])]
        named = {f"{{{name}}}": str(value) for name, value in values.items()}
        return tuple(NAMED.sub(lambda match: named[match[0]], word) for word in words)

    def sets(self) -> set[str]:
        """Return the keys of train.py that trials set."""
        keys: set[str] = set()
        for name, one in self.dimensions.items():
            words = (name,) if isinstance(one, LogRange) else itertools.chain.from_iterable(one.options.values())
            keys |= {word.partition("=")[0].lstrip("+~") for word in words}
        return keys

    def widened(self, name: str, side: str) -> "Space":
        """Return the space with one range made ten times as wide, on the side "low" or "high"."""
        one = self.dimensions[name]
        if not isinstance(one, LogRange):
            raise ValueError(f"{name} is not a range.")
        wide = replace(one, low=_round(one.low / 10)) if side == "low" else replace(one, high=_round(one.high * 10))
        return replace(self, dimensions={**self.dimensions, name: wide})


def read_space(optimizer: str, folder: Path = SPACES) -> Space:
    """Read an optimizer's search space. Raises a UserError if it does not exist or is invalid."""
    path = folder / f"{optimizer}.yaml"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if optimizer not in names:
        known = ", ".join(names)
        raise UserError(
            f"optimizer={optimizer} has no search space. Optimizers with one: {known}. To add one, write {path}."
        )
    found = read_yaml(path, cure="correct it")
    try:
        dimensions = {str(name): _dimension(str(name), value) for name, value in found.items()}
        _require_whole(dimensions, {str(name) for name, value in found.items() if isinstance(value, list)})
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    named = {name for one in dimensions.values() if isinstance(one, Choice) for name in _named(one)}
    for name in named:  # its value appears only where choices refer to it
        dimensions[name] = Choice(dict.fromkeys(_choice(dimensions[name]).options, ()))
    return Space(optimizer, dimensions)


def _dimension(name: str, value: Any) -> Dimension:
    if isinstance(value, list):
        texts = [_text(one) for one in value]
        if len(set(texts)) < max(2, len(texts)):
            raise ValueError(f"{name} needs at least two values, all different.")
        return Choice({text: (f"{name}={text}",) for text in texts})
    if isinstance(value, dict) and set(value) == {"low", "high"}:
        return _range(name, value)
    if isinstance(value, dict) and len(value) > 1 and all(isinstance(words, list) for words in value.values()):
        return Choice({str(label): tuple(_word(name, word) for word in words) for label, words in value.items()})
    raise ValueError(
        f"{name} is not a valid dimension. Valid are {{low: 1e-4, high: 1e-1}}, a list of values, or at least two "
        "choices, each with a list of arguments of train.py."
    )


def _range(name: str, value: dict[str, Any]) -> LogRange:
    low, high = value["low"], value["high"]
    if not all(
        isinstance(end, int | float) and not isinstance(end, bool) and 0 < end < math.inf for end in (low, high)
    ):
        raise ValueError(
            f"{name}: low={low} and high={high} must be numbers above 0, because the range is log-uniform."
        )
    if low >= high:
        raise ValueError(f"{name}: low={low} must be below high={high}.")
    _word(name, f"{name}={low}")
    return LogRange(float(low), float(high))


def _word(name: str, word: Any) -> str:
    if not isinstance(word, str) or "=" not in word or not word.lstrip("+~").startswith(PARTS):
        raise ValueError(f"{name}: {word!r} is not allowed, because a search space may only set {', '.join(PARTS)}.")
    return word


def _require_whole(dimensions: Mapping[str, Dimension], lists: set[str]) -> None:
    """Raise a ValueError for too few or too many dimensions, and for undefined or unused names."""
    choices = {name: one for name, one in dimensions.items() if isinstance(one, Choice)}
    named = {inner: name for name, one in choices.items() if name not in lists for inner in _named(one)}
    if unknown := sorted(set(named) - lists):
        raise ValueError(f"{named[unknown[0]]} uses {{{unknown[0]}}}, but {unknown[0]} has no list of values.")
    for name in sorted(lists - set(named)):
        if not f"{name}=".startswith(PARTS):
            raise ValueError(f"{name} is not a key that a space may set, and no choice uses {{{name}}}.")
    others = [name for name in dimensions if name not in COLUMNS]
    if not dimensions or len(others) > DIMENSIONS - len(COLUMNS):
        raise ValueError(
            f"a space needs at least one dimension, and at most {DIMENSIONS - len(COLUMNS)} besides "
            f"{', '.join(COLUMNS)}; this one has {first_few(others) or 'none'}."
        )


def _named(choice: Choice) -> set[str]:
    return {name for words in choice.options.values() for word in words for name in NAMED.findall(word)}


def _choice(dimension: Dimension) -> Choice:
    assert isinstance(dimension, Choice)
    return dimension


def _text(value: Any) -> str:
    """Return a value as typed on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    return json.dumps(value) if isinstance(value, bool) or value is None else str(value)


def _round(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")
