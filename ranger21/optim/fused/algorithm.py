"""Which chains the fused step can do, and with which numbers."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ranger21.optim.ingredients.agc import AGC
from ranger21.optim.ingredients.centralize import Centralize
from ranger21.optim.ingredients.decay import Decay
from ranger21.optim.ingredients.first_moment import FirstMoment
from ranger21.optim.ingredients.lookahead import Lookahead
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.ingredients.second_moment import SecondMoment
from ranger21.optim.recipe import Recipe


@dataclass(frozen=True)
class Algorithm:
    """Algorithm 4, less what is None.

    Attributes:
        moment, second: the moments.
        clipping, centralize, decay, lookahead: the other ingredients; None: not in the chain.
    """

    moment: PNM | FirstMoment
    second: SecondMoment
    clipping: AGC | None
    centralize: Centralize | None
    decay: Decay | None
    lookahead: Lookahead | None


@lru_cache(maxsize=64)
def read(recipe: Recipe) -> Algorithm | None:
    """Return the chain as Algorithm 4, less some of it, in its order; None: it is something else."""
    rest = list(recipe.ingredients)

    def take(kind: type) -> Any:  # no class derived from it, which does something else
        return rest.pop(0) if rest and type(rest[0]) is kind else None

    clipping, centralize = take(AGC), take(Centralize)
    moment, second = take(PNM) or take(FirstMoment), take(SecondMoment)
    decay, lookahead = take(Decay), take(Lookahead)
    if rest or moment is None or second is None or second.softplus is not None:
        return None
    return Algorithm(moment, second, clipping, centralize, decay, lookahead)
