"""What an optimizer can be composed of: one ingredient, one file. To add one, list it here."""

from ranger21.optim.ingredients.agc import AGC
from ranger21.optim.ingredients.base import Ingredient
from ranger21.optim.ingredients.centralize import Centralize
from ranger21.optim.ingredients.decay import Decay
from ranger21.optim.ingredients.first_moment import FirstMoment
from ranger21.optim.ingredients.l2 import L2
from ranger21.optim.ingredients.lookahead import Lookahead
from ranger21.optim.ingredients.normalize import Normalize
from ranger21.optim.ingredients.pnm import PNM
from ranger21.optim.ingredients.rectify import Rectify
from ranger21.optim.ingredients.second_moment import SecondMoment
from ranger21.optim.ingredients.trust_ratio import TrustRatio

ALL = (AGC, Centralize, Normalize, FirstMoment, PNM, SecondMoment, Rectify, L2, TrustRatio, Decay, Lookahead)
INGREDIENTS: dict[str, type[Ingredient]] = {ingredient.name: ingredient for ingredient in ALL}
