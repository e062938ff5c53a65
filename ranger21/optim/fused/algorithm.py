"""The chains that the fused step supports."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ranger21.optim.ingredients.agc import AGC
from ranger21.optim.ingredients.centralize import Centralize
from ranger21.optim.ingredients.decay import Decay
from ranger21.optim.ingredients.first_moment import FirstMoment
from ranger21.optim.ingredients.lookahead import LookaheadMerge
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.ingredients.second_moment import SecondMoment
from ranger21.optim.recipe import Recipe


@dataclass(frozen=True)
class Algorithm:
    """The ingredients of Algorithm 4, or of a part of it.

    Attributes:
        moment, second: The first and second moment.
        clipping, centralize, decay, lookahead: The other ingredients; None if the chain does not have them.
    """

    moment: PNM | FirstMoment
    second: SecondMoment
    clipping: AGC | None
    centralize: Centralize | None
    decay: Decay | None
    lookahead: LookaheadMerge | None


@lru_cache(maxsize=64)
def read(recipe: Recipe) -> Algorithm | None:
    """Return the recipe as Algorithm 4 or a part of it in the same order, or None if it is another chain."""
    rest = list(recipe.ingredients)

    def take(kind: type) -> Any:  # subclasses do not count, because they compute something else
        return rest.pop(0) if rest and type(rest[0]) is kind else None

    clipping, centralize = take(AGC), take(Centralize)
    moment, second = take(PNM) or take(FirstMoment), take(SecondMoment)
    decay, lookahead = take(Decay), take(LookaheadMerge)
    if rest or moment is None or second is None or second.softplus is not None:
        return None
    return Algorithm(moment, second, clipping, centralize, decay, lookahead)
