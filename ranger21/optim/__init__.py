"""The Ranger21 optimizer, its ingredients and its learning-rate schedules. Depends on torch only.

Names are loaded on first use: the ranges of hyperparameters and the schedules need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ranger21.namesake import warn_of_namesake

if TYPE_CHECKING:
    from ranger21.optim.chain import Chain
    from ranger21.optim.groups import parameter_groups
    from ranger21.optim.lookahead import Lookahead
    from ranger21.optim.official import Ranger21Official
    from ranger21.optim.ranger21 import Ranger21
    from ranger21.optim.schedules import (
        after_warmup,
        constant,
        cosine,
        cyclic,
        explore_exploit,
        one_cycle,
        step_decay,
        triangle,
    )

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
    "triangle",
]

warn_of_namesake()

if not TYPE_CHECKING:
    # The module of each public name that is not in `schedules`.
    MODULES = {
        "Chain": "chain",
        "Lookahead": "lookahead",
        "Ranger21": "ranger21",
        "Ranger21Official": "official",
        "parameter_groups": "groups",
    }

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'ranger21.optim' has no attribute {name!r}")
        module = importlib.import_module(f"ranger21.optim.{MODULES.get(name, 'schedules')}")
        return globals().setdefault(name, getattr(module, name))

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
