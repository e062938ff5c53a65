"""The values that hyperparameters may have, each range defined once. Imports no torch.

Ingredients, optimizers, schedules and the configuration take their ranges from here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any


@dataclass(
    frozen=True, eq=False
)  # compared by identity: a schedule's BASE_RATE differs from other ranges of the same values
class Range:
    """The values that an argument may have.

    Attributes:
        words: A description of the values, as in "eps must be WORDS".
        has: A function that returns whether a value is in the range.
        choices: All values of the range, if they are few; else none.
    """

    words: str
    has: Callable[[Any], bool]
    choices: tuple[Any, ...] = ()


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number; a bool is not one."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


FRACTION = Range("a number in [0, 1)", lambda x: is_number(x) and 0 <= x < 1)
SHARE = Range("a number in [0, 1]", lambda x: is_number(x) and 0 <= x <= 1)
INNER_FRACTION = Range("a number in (0, 1)", lambda x: is_number(x) and 0 < x < 1)
AT_LEAST_0 = Range("a number of at least 0", lambda x: is_number(x) and x >= 0)
ABOVE_0 = Range("a number above 0", lambda x: is_number(x) and x > 0)
SWITCH = Range("True or False", lambda x: isinstance(x, bool), (False, True))
COUNT = Range("an integer >= 1", lambda x: _is_integer(x) and x >= 1)
COUNT_OR_0 = Range("an integer of at least 0", lambda x: _is_integer(x) and x >= 0)


def or_none(range: Range) -> Range:
    """Return the range extended by None."""
    return Range(f"{range.words}, or None", lambda x: x is None or range.has(x))


def below(range: Range, high: float) -> Range:
    """Return the part of a range of numbers that is below `high`."""
    text = f"{high:,}" if isinstance(high, int) else f"{high:g}"
    return Range(f"{range.words} and below {text}", lambda x: range.has(x) and x < high)


def one_of(*choices: str | None) -> Range:
    """Return a range of a few strings, and of None if it is among the arguments."""
    words = [repr(choice) for choice in choices if choice is not None] + ["None"] * (None in choices)
    fits = {choice for choice in choices if choice is not None}
    text = f"one of {', '.join(words[:-1])} or {words[-1]}"
    return Range(text, lambda x: (isinstance(x, str) and x in fits) or x is None in choices, choices)


# The hyperparameters of the paper's ingredients.
LEARNING_RATE = AT_LEAST_0
WEIGHT_DECAY = AT_LEAST_0
BETA = FRACTION  # beta1 and beta2
PNM_BETA = AT_LEAST_0  # beta0
EPS = AT_LEAST_0
AGC_CLIPPING = ABOVE_0
AGC_EPS = ABOVE_0
STABLE_DECAY = one_of("layer", "global", None)
LOOKAHEAD_K = COUNT  # 0 switches lookahead off in Ranger21, which then has no such ingredient
LOOKAHEAD_BETA = FRACTION
STATES = ("may2021", "july2021")  # versions of the authors' code
STATE = one_of(*STATES)
BETAS = Range("two numbers in [0, 1)", lambda x: isinstance(x, tuple | list) and len(x) == 2 and all(map(BETA.has, x)))

# The arguments of `Chain`, `Ranger21` and `Ranger21Official` besides lr, which may be a tensor, and the switches.
CHAIN = {"weight_decay": WEIGHT_DECAY}
RANGER21 = {
    **CHAIN,
    "betas": BETAS,
    "pnm_beta": PNM_BETA,
    "eps": EPS,
    "agc_clipping": or_none(AGC_CLIPPING),
    "agc_eps": AGC_EPS,
    "centralize": SWITCH,
    "pnm": SWITCH,
    "stable_decay": STABLE_DECAY,
    "norm_loss": SWITCH,
    "lookahead_k": COUNT_OR_0,
    "lookahead_beta": LOOKAHEAD_BETA,
}
OFFICIAL = {
    **CHAIN,
    "betas": BETAS,
    "eps": EPS,
    "agc_clipping": AGC_CLIPPING,
    "agc_eps": AGC_EPS,
    "lookahead_k": COUNT_OR_0,
    "lookahead_beta": LOOKAHEAD_BETA,
}
