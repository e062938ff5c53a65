"""Ranger21 (Wright and Demeure, 2021): the optimizer, and an experiment runner that checks the paper's claims.

`from ranger21 import Ranger21` needs torch and nothing else. Names are loaded on first use, so that reading a
configuration (`python train.py --help`) does not have to wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranger21.optim.groups import parameter_groups
    from ranger21.optim.ranger21 import Ranger21
    from ranger21.optim.schedules import explore_exploit

__version__ = "0.1.0"
__all__ = ["Ranger21", "__version__", "explore_exploit", "parameter_groups"]


def __getattr__(name: str) -> Any:
    if name == "Ranger21":
        from ranger21.optim.ranger21 import Ranger21

        return Ranger21
    if name == "explore_exploit":
        from ranger21.optim.schedules import explore_exploit

        return explore_exploit
    if name == "parameter_groups":
        from ranger21.optim.groups import parameter_groups

        return parameter_groups
    raise AttributeError(f"module 'ranger21' has no attribute {name!r}")
