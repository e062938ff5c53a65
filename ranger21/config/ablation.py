"""The ablation of Ranger21: its ingredients, and the choices of `ablation=` that switch some of them off."""

from collections.abc import Collection
from typing import Any

# In the order of the ladder: the setting of each ingredient, and its value when it is off.
INGREDIENTS: dict[str, tuple[str, Any]] = {
    "schedule": ("schedule.name", "constant"),
    "agc": ("optimizer.agc_clipping", None),
    "centralize": ("optimizer.centralize", False),
    "pnm": ("optimizer.pnm", False),
    "stable_decay": ("optimizer.stable_decay", None),
    "norm_loss": ("optimizer.norm_loss", False),
    "lookahead": ("optimizer.lookahead_k", 0),
}
ALL = tuple(INGREDIENTS)

# The choices of experiment=ablation, each with the ingredients that are on. The ladder begins at AdamW with a constant
# rate and adds one ingredient a step; no set of ingredients has two names (only_schedule would be 1_schedule, and
# minus_lookahead 6_norm_loss).
LADDER = {f"{i}_{name}": ALL[:i] for i, name in enumerate(("adamw", *ALL))}
MINUS = {f"minus_{name}": tuple(other for other in ALL if other != name) for name in ALL[:-1]}
ONLY = {f"only_{name}": (name,) for name in ALL[1:]}
ON: dict[str, tuple[str, ...]] = {**LADDER, **MINUS, **ONLY}


def switched_off(on: Collection[str]) -> dict[str, Any]:
    """Return a configuration, as a file of configs/ would hold it, that leaves only the ingredients in `on`."""
    off = {key: value for name, (key, value) in INGREDIENTS.items() if name not in on}
    optimizer = {key.partition(".")[2]: value for key, value in off.items() if key.startswith("optimizer.")}
    defaults = [{"override /schedule": off["schedule.name"]}] if "schedule.name" in off else []
    return ({"defaults": defaults} if defaults else {}) | ({"optimizer": optimizer} if optimizer else {})


def nodes() -> dict[str, dict[str, Any]]:
    """Return the configuration of every choice of `ablation=`; "none", the default, switches nothing off."""
    return {"none": {}} | {name: switched_off(on) for name, on in ON.items()}
