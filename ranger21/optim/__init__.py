"""Ranger21, its ingredients and its schedules. Imports torch and itself only."""

from ranger21.namesake import warn_of_namesake
from ranger21.optim.chain import Chain
from ranger21.optim.groups import parameter_groups
from ranger21.optim.lookahead import Lookahead
from ranger21.optim.official import Ranger21Official
from ranger21.optim.ranger21 import Ranger21
from ranger21.optim.schedules import after_warmup, constant, cosine, cyclic, explore_exploit, one_cycle, step_decay

__all__ = [
    "Chain",
    "Lookahead",
    "Ranger21",
    "Ranger21Official",
    "after_warmup",
    "constant",
    "cosine",
    "cyclic",
    "explore_exploit",
    "one_cycle",
    "parameter_groups",
    "step_decay",
]

warn_of_namesake()
