"""Ranger21 (Wright and Demeure, 2021): the optimizer, and an experiment runner that checks the paper's claims.

`from ranger21 import Ranger21` needs torch and nothing else. Names are loaded on first use, so that reading a
configuration (`python train.py --help`) does not have to wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranger21.optim import Chain, Ranger21, explore_exploit, parameter_groups

__version__ = "0.2.0"
__all__ = ["Chain", "Ranger21", "__version__", "explore_exploit", "parameter_groups"]

if not TYPE_CHECKING:  # a type checker would take every name for one that there is

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'ranger21' has no attribute {name!r}")
        from ranger21 import optim

        return globals().setdefault(name, getattr(optim, name))

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
